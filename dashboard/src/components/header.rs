//! Name, connection with freshness, theme, user.

use leptos::prelude::*;
use millrace_wire::api::Role;
use wasm_bindgen_futures::spawn_local;

use crate::format;
use crate::net::rest;
use crate::page::{Access, Page};
use crate::store::Connection;
use crate::theme::Theme;

/// The bar on top.
#[component]
pub fn Header() -> impl IntoView {
    let page = expect_context::<Page>();
    let user = move || {
        page.access.with(|access| match access {
            Access::SignedIn(session) => {
                let role = match session.role {
                    Role::Viewer => "viewer",
                    Role::Operator => "operator",
                    Role::Admin => "admin",
                };
                Some(view! { <b>{session.username.clone()}</b><span class="role">{role}</span> })
            }
            _ => None,
        })
    };
    let sign_out = move |_| {
        spawn_local(async move {
            let reason = match rest::sign_out().await {
                Ok(()) => String::new(),
                Err(failure) => failure.text(),
            };
            page.signed_out(&reason);
        });
    };
    view! {
        <header class="bar">
            <div class="inner">
                <h1><img src="icon.svg" alt="" width="22" height="22"/>"Millrace"</h1>
                <ConnectionState/>
                <span class="space"></span>
                <ThemeSwitch/>
                <span class="user">{user}</span>
                <button type="button" class="plain" data-testid="sign-out" on:click=sign_out>"Sign out"</button>
            </div>
        </header>
    }
    .into_any()
}

/// Whether data comes, and how old it is.
#[component]
fn ConnectionState() -> impl IntoView {
    let page = expect_context::<Page>();
    // (state, symbol, words): never by colour alone.
    let said = Memo::new(move |_| match page.connection.get() {
        Connection::Connecting => ("wait", "◌", "connecting".to_owned()),
        Connection::Live if page.stale() => ("bad", "▲", "stale".to_owned()),
        Connection::Live => ("good", "●", "live".to_owned()),
        Connection::Reconnecting { at_ms } => {
            let seconds = ((at_ms - page.now_ms.get()) / 1_000.0).ceil().max(0.0);
            let when =
                if seconds > 0.0 { format!("reconnecting in {seconds:.0} s") } else { "reconnecting".into() };
            ("bad", "▲", when)
        }
        Connection::SignedOut => ("bad", "✕", "signed out".to_owned()),
    });
    let fresh = move || match page.age_ms() {
        None => "no data yet".into(),
        Some(age) if age < 1_000.0 => "data < 1 s old".into(),
        Some(age) => format!("data {} old", format::age(age)),
    };
    view! {
        <span
            class=move || format!("connection {}", said.get().0)
            data-testid="connection"
            data-state=move || match page.connection.get() {
                Connection::Connecting => "connecting",
                Connection::Live => "live",
                Connection::Reconnecting { .. } => "reconnecting",
                Connection::SignedOut => "signed-out",
            }
        >
            <i aria-hidden="true">{move || said.get().1}</i>
            " "
            <b>{move || said.get().2}</b>
            " "
            <span class="quiet">{fresh}</span>
        </span>
    }
}

/// Automatic, light, dark.
#[component]
fn ThemeSwitch() -> impl IntoView {
    let page = expect_context::<Page>();
    let chosen = RwSignal::new(Theme::stored());
    let buttons = Theme::ALL.map(|theme| {
        let choose = move |_| {
            theme.choose();
            chosen.set(theme);
            page.theme_changes.update(|n| *n = n.wrapping_add(1));
        };
        view! {
            <button
                type="button"
                aria-pressed=move || (chosen.get() == theme).to_string()
                data-testid=format!("theme-{}", theme.name())
                on:click=choose
            >
                {theme.name()}
            </button>
        }
    });
    view! { <div class="switch" role="group" aria-label="Theme">{buttons.into_iter().collect_view()}</div> }
}
