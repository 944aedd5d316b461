//! The root: owns the signals, the clock and the choice between sign-in and overview.

use std::time::Duration;

use leptos::prelude::*;

use crate::components::apps::Apps;
use crate::components::charts::Charts;
use crate::components::controls::Controls;
use crate::components::header::Header;
use crate::components::ledger::Ledger;
use crate::components::pipeline::Pipeline;
use crate::components::problems::Problems;
use crate::components::results::Results;
use crate::components::sign_in::SignIn;
use crate::components::system::System;
use crate::components::tiles::Tiles;
use crate::net::live;
use crate::page::{Access, Page};

/// Everything.
#[component]
pub fn App() -> impl IntoView {
    let page = Page::new();
    provide_context(page);
    page.ask();
    set_interval(
        move || {
            let _ = page.now_ms.try_set(js_sys::Date::now());
            live::watch();
        },
        Duration::from_millis(500),
    );
    let screen = Memo::new(move |_| {
        page.access.with(|access| match access {
            Access::Asking => 0,
            Access::SignedOut(_) => 1,
            Access::SignedIn(_) => 2,
        })
    });
    move || match screen.get() {
        0 => view! { <p class="boot" role="status">"Asking the gateway who you are …"</p> }.into_any(),
        1 => view! { <SignIn/> }.into_any(),
        _ => view! { <Overview/> }.into_any(),
    }
}

#[component]
fn Overview() -> impl IntoView {
    let page = expect_context::<Page>();
    view! {
        <a class="skip" href="#main">"Skip to the pipeline"</a>
        <Header/>
        <main id="main" tabindex="-1" class:stale=move || page.stale()>
            <Problems/>
            <Pipeline/>
            <Tiles/>
            <Charts/>
            <Controls/>
            <Results/>
            <Apps/>
            <Ledger/>
            <System/>
        </main>
        <footer class="quiet">"Millrace · every number is measured; “–” means that nobody has measured it."</footer>
    }
    .into_any()
}
