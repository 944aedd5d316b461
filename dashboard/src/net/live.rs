//! The live connection: postcard over a WebSocket, reconnecting with back-off, resuming where it stopped.
//!
//! Messages go into a [`State`] outside of the signals; one animation frame later what changed is copied into them, so
//! that a burst of messages costs one rendering. Callbacks outlive views: they use `try_set` only.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use leptos::prelude::*;
use millrace_wire::live::{ClientMessage, POSTCARD, ServerMessage};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use web_sys::{BinaryType, Event, MessageEvent, WebSocket};

use crate::net::rest;
use crate::page::Page;
use crate::store::{Changed, Connection, State, backoff_ms};

/// No message for so long: the connection is dead, whatever the browser thinks.
const SILENCE_MS: f64 = 10_000.0;

thread_local! {
    static LIVE: RefCell<Option<Rc<Live>>> = const { RefCell::new(None) };
}

struct Live {
    page: Page,
    socket: RefCell<Option<Open>>,
    state: RefCell<State>,
    pending: Cell<Changed>,
    frame_asked: Cell<bool>,
    received_ms: Cell<f64>,
    attempt: Cell<u32>,
    /// A retry is due: whatever the old socket still says does not count.
    waiting: Cell<bool>,
    stopped: Cell<bool>,
}

/// A socket with the callbacks that must live as long.
struct Open {
    socket: WebSocket,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _opened: Closure<dyn FnMut(Event)>,
    _lost: Closure<dyn FnMut(Event)>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.socket.set_onmessage(None);
        self.socket.set_onopen(None);
        self.socket.set_onclose(None);
        let _ = self.socket.close();
    }
}

/// Connects, and keeps connected until [`stop`].
pub fn start(page: Page) {
    stop();
    let live = Rc::new(Live {
        page,
        socket: RefCell::default(),
        state: RefCell::default(),
        pending: Cell::default(),
        frame_asked: Cell::new(false),
        received_ms: Cell::new(js_sys::Date::now()),
        attempt: Cell::new(0),
        waiting: Cell::new(false),
        stopped: Cell::new(false),
    });
    LIVE.with_borrow_mut(|slot| *slot = Some(live.clone()));
    live.set_connection(Connection::Connecting);
    live.connect();
}

/// Disconnects.
pub fn stop() {
    if let Some(live) = LIVE.with_borrow_mut(Option::take) {
        live.stopped.set(true);
        live.socket.borrow_mut().take();
    }
}

/// To be called about twice a second: gives up a connection that has gone silent.
pub fn watch() {
    let live = LIVE.with_borrow(Option::clone);
    if let Some(live) = live {
        let open = live.socket.borrow().is_some();
        if open && js_sys::Date::now() - live.received_ms.get() > SILENCE_MS {
            live.lost();
        }
    }
}

impl Live {
    fn set_connection(&self, connection: Connection) {
        let _ = self.page.connection.try_set(connection);
    }

    fn connect(self: &Rc<Self>) {
        let location = window().location();
        let scheme = if location.protocol().is_ok_and(|p| p == "https:") { "wss" } else { "ws" };
        let url = format!("{scheme}://{}/api/v1/live", location.host().unwrap_or_default());
        let Ok(socket) = WebSocket::new_with_str(&url, POSTCARD) else {
            self.lost();
            return;
        };
        socket.set_binary_type(BinaryType::Arraybuffer);
        self.received_ms.set(js_sys::Date::now());
        let on_message = self.clone();
        let message = Closure::new(move |event: MessageEvent| on_message.message(&event));
        let on_open = self.clone();
        let opened = Closure::new(move |_: Event| on_open.opened());
        let on_lost = self.clone();
        let lost = Closure::new(move |_: Event| on_lost.lost());
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onopen(Some(opened.as_ref().unchecked_ref()));
        socket.set_onclose(Some(lost.as_ref().unchecked_ref()));
        *self.socket.borrow_mut() = Some(Open { socket, _message: message, _opened: opened, _lost: lost });
    }

    fn opened(&self) {
        let Some(seq) = self.state.borrow().seq else { return };
        let Ok(bytes) = postcard::to_stdvec(&ClientMessage::Resume { seq }) else { return };
        if let Some(open) = &*self.socket.borrow() {
            let _ = open.socket.send_with_u8_array(&bytes);
        }
    }

    fn message(self: &Rc<Self>, event: &MessageEvent) {
        let Ok(buffer) = event.data().dyn_into::<js_sys::ArrayBuffer>() else { return };
        let bytes = js_sys::Uint8Array::new(&buffer).to_vec();
        let Ok(message) = postcard::from_bytes::<ServerMessage>(&bytes) else {
            leptos::logging::warn!("a live message of {} bytes could not be read", bytes.len());
            return;
        };
        self.attempt.set(0);
        self.received_ms.set(js_sys::Date::now());
        let mut changed = self.pending.get();
        changed.merge(self.state.borrow_mut().apply(message));
        self.pending.set(changed);
        if !self.frame_asked.replace(true) {
            let live = self.clone();
            request_animation_frame(move || live.commit());
        }
    }

    /// Once a frame: what changed goes into the signals.
    fn commit(&self) {
        self.frame_asked.set(false);
        let changed = self.pending.replace(Changed::default());
        if self.stopped.get() {
            return;
        }
        if changed.signed_out {
            stop();
            self.page.signed_out("Your session has ended.");
            return;
        }
        if !self.waiting.get() {
            self.set_connection(Connection::Live);
        }
        let _ = self.page.received_ms.try_set(self.received_ms.get());
        self.page.commit(&self.state.borrow(), changed);
    }

    /// The connection is gone or never came: again after a while, unless the session is what is missing.
    fn lost(self: &Rc<Self>) {
        if self.stopped.get() || self.waiting.replace(true) {
            return;
        }
        let attempt = self.attempt.get();
        self.attempt.set(attempt.saturating_add(1));
        let wait = backoff_ms(attempt, js_sys::Math::random());
        self.set_connection(Connection::Reconnecting { at_ms: js_sys::Date::now() + wait });
        let live = self.clone();
        set_timeout(move || live.retry(), Duration::from_millis(wait as u64));
    }

    fn retry(self: Rc<Self>) {
        // Here and not in `lost`: that may run inside of one of the callbacks that this drops.
        self.socket.borrow_mut().take();
        spawn_local(async move {
            let session = rest::session().await;
            if self.stopped.get() {
                return;
            }
            if session.is_err_and(|failure| failure.signed_out()) {
                stop();
                self.page.signed_out("Your session has ended.");
            } else {
                self.waiting.set(false);
                self.connect();
            }
        });
    }
}
