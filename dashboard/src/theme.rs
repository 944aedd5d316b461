//! Light, dark, or as the system says. The choice is a `data-theme` attribute on the root element that style.css and
//! the charts read; boot.js sets it before anything is drawn.

use leptos::prelude::{document, window};

const KEY: &str = "millrace-theme";

/// What the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// As the system says.
    Auto,
    /// Dark.
    Dark,
    /// Light.
    Light,
}

impl Theme {
    /// All, in the order of the switch.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// Its name, as stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }

    /// The stored choice.
    pub fn stored() -> Self {
        let storage = window().local_storage().ok().flatten();
        let name = storage.and_then(|s| s.get_item(KEY).ok().flatten()).unwrap_or_default();
        Self::ALL.into_iter().find(|t| t.name() == name).unwrap_or(Self::Auto)
    }

    /// Applies and stores it.
    pub fn choose(self) {
        if let Some(root) = document().document_element() {
            let _ = root.set_attribute("data-theme", self.name());
        }
        if let Ok(Some(storage)) = window().local_storage() {
            let _ = storage.set_item(KEY, self.name());
        }
    }
}

/// Whether the page is dark now.
pub fn is_dark() -> bool {
    match Theme::stored() {
        Theme::Dark => true,
        Theme::Light => false,
        Theme::Auto => window()
            .match_media("(prefers-color-scheme: dark)")
            .ok()
            .flatten()
            .is_some_and(|query| query.matches()),
    }
}
