//! The form in front of everything.

use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::net::rest;
use crate::page::{Access, Page};

/// Asks for name and password.
#[component]
pub fn SignIn() -> impl IntoView {
    let page = expect_context::<Page>();
    let username = RwSignal::new(String::new());
    let password = RwSignal::new(String::new());
    let busy = RwSignal::new(false);
    let error = RwSignal::new(None::<(String, String)>);
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        error.set(None);
        spawn_local(async move {
            let answer = rest::sign_in(username.get_untracked(), password.get_untracked()).await;
            let _ = busy.try_set(false);
            match answer {
                Ok(session) => page.signed_in(session),
                Err(failure) => {
                    let _ = error.try_set(Some((failure.title, failure.detail)));
                }
            }
        });
    };
    let reason = move || {
        page.access.with(|access| match access {
            Access::SignedOut(Some(reason)) => {
                Some(view! { <p class="note" role="status">{reason.clone()}</p> })
            }
            _ => None,
        })
    };
    let problem = move || {
        error.get().map(|(title, detail)| {
            view! {
                <div class="error" role="alert" data-testid="sign-in-error">
                    <strong>{title}</strong>
                    <p>{detail}</p>
                </div>
            }
        })
    };
    view! {
        <main class="sign-in">
            <form class="card" on:submit=submit>
                <h1><img src="icon.svg" alt="" width="28" height="28"/>"Millrace"</h1>
                <p class="quiet">"Sign in to watch the pipeline and change it while it runs."</p>
                {reason}
                <label for="username">"User"</label>
                <input
                    id="username" name="username" data-testid="sign-in-username" autocomplete="username"
                    autocapitalize="none" spellcheck="false" required autofocus
                    on:input=move |e| username.set(event_target_value(&e))
                />
                <label for="password">"Password"</label>
                <input
                    id="password" name="password" type="password" data-testid="sign-in-password"
                    autocomplete="current-password" required
                    on:input=move |e| password.set(event_target_value(&e))
                />
                {problem}
                <button class="primary" type="submit" data-testid="sign-in-submit" disabled=busy>
                    {move || if busy.get() { "Signing in …" } else { "Sign in" }}
                </button>
                <p class="quiet small">"The first start printed the admin password once. Set "
                    <code>"MILLRACE_ADMIN_PASSWORD"</code>" before it to choose your own."</p>
            </form>
        </main>
    }
    .into_any()
}
