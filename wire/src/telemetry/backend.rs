use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an app keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateBackend {
    /// All of it in memory.
    #[default]
    Memory,
    /// On the worker's disk, with a cache in memory: it may be larger than memory.
    Disk,
}

impl StateBackend {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// The choice of a backend for an app: `commerce=disk`.
///
/// ```
/// use millrace_wire::telemetry::{AppBackend, StateBackend};
///
/// let chosen: AppBackend = "commerce=disk".parse().unwrap();
/// assert_eq!((chosen.app.as_str(), chosen.backend), ("commerce", StateBackend::Disk));
/// assert_eq!(chosen.to_string(), "commerce=disk");
/// assert!("commerce".parse::<AppBackend>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppBackend {
    /// The app.
    pub app: String,
    /// Where its state is kept.
    pub backend: StateBackend,
}

impl FromStr for AppBackend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [StateBackend::Memory, StateBackend::Disk];
        let parsed = text.split_once('=').and_then(|(app, name)| {
            let backend = known.into_iter().find(|backend| backend.name() == name)?;
            (!app.is_empty()).then(|| Self { app: app.to_owned(), backend })
        });
        parsed.ok_or_else(|| format!("{text:?} is not APP=memory or APP=disk"))
    }
}

impl TryFrom<String> for AppBackend {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AppBackend> for String {
    fn from(chosen: AppBackend) -> Self {
        chosen.to_string()
    }
}

impl fmt::Display for AppBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.app, self.backend.name())
    }
}
