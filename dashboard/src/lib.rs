//! The page of Millrace: Leptos, rendered in the browser, fed over one WebSocket.
//!
//! Path of the data: [`net::live`] decodes messages into a [`store::State`] (pure, tested on the host) outside of the
//! signals; once an animation frame what changed is copied into [`page::Page`]; [`components`] and [`chart`] read from
//! there. Changes go out through [`net::rest`].
//!
//! Invariant: the page knows the gateway only through `millrace-wire`, and shows no number that it was not sent.

pub mod app;
pub mod chart;
pub mod components;
pub mod field;
pub mod format;
pub mod net;
pub mod page;
pub mod scale;
pub mod store;
pub mod theme;

use wasm_bindgen::prelude::wasm_bindgen;

/// Called by boot.js once the module is loaded.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        // index.html holds the message; boot.js its button. Leptos can't be relied on any more.
        if let Some(crash) = leptos::prelude::document().get_element_by_id("crash") {
            let _ = crash.remove_attribute("hidden");
        }
    }));
    leptos::mount::mount_to_body(app::App);
}
