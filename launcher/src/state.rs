//! What a data folder remembers between starts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use millrace_wire::telemetry::AppBackend;
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, write_private};
use crate::ports::Ports;

/// Version of the data folder's format.
pub const FORMAT: u32 = 1;
/// Worker processes, unless asked otherwise.
pub const DEFAULT_WORKERS: u16 = 2;

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// `--port-base` of the latest start.
    pub port_base: Option<u16>,
    /// `--workers` of the latest start.
    pub workers: u16,
    /// Where Elasticsearch keeps its files: outside the data folder if its user cannot reach that.
    pub elasticsearch: Option<PathBuf>,
    /// `--checkpoint-url` of the latest start that had one.
    #[serde(default)]
    pub checkpoint_url: Option<String>,
    /// `--backend` of the latest starts, one for each app.
    #[serde(default)]
    pub backends: Vec<AppBackend>,
    /// Its components are on hosts of their names: see [`crate::provision`].
    #[serde(default)]
    pub named_hosts: bool,
    /// The gateway has its first user; no password needs to be made up any more.
    pub admin_created: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: FORMAT,
            port_base: None,
            workers: DEFAULT_WORKERS,
            elasticsearch: None,
            checkpoint_url: None,
            backends: Vec::new(),
            named_hosts: false,
            admin_created: false,
        }
    }
}

impl State {
    /// The folder's state; `None` if the folder was never started.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let broken = || format!("{} is damaged; `millrace reset` starts over", path.display());
        let version: Version = serde_json::from_str(&text).with_context(broken)?;
        if version.format != FORMAT {
            bail!(
                "the data folder {} has format {}, this version of Millrace uses {FORMAT}: use the version that \
                 wrote it, another folder (--data DIR), or clear it with `millrace reset`",
                layout.root().display(),
                version.format
            );
        }
        serde_json::from_str(&text).with_context(broken)
    }

    /// Remembers it.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        write_private(&layout.state(), &serde_json::to_string_pretty(self)?)
    }

    /// Remembers where the state of apps is kept.
    pub fn choose(&mut self, backends: &[AppBackend]) {
        for chosen in backends {
            self.backends.retain(|before| before.app != chosen.app);
            self.backends.push(chosen.clone());
        }
    }

    /// Where checkpoints are kept.
    pub fn checkpoints(&self, layout: &Layout) -> String {
        self.checkpoint_url.clone().unwrap_or_else(|| format!("file://{}", layout.checkpoints().display()))
    }

    /// The ports of the latest start.
    pub fn ports(&self) -> Ports {
        if self.named_hosts { Ports::on_named_hosts() } else { Ports::new(self.port_base) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_choice_of_a_backend_counts() {
        let mut state = State::default();
        let chosen = |text: &str| text.parse::<AppBackend>().unwrap();
        state.choose(&[chosen("bank=disk"), chosen("commerce=disk")]);
        state.choose(&[chosen("bank=memory")]);
        assert_eq!(state.backends, [chosen("commerce=disk"), chosen("bank=memory")]);
        let text = serde_json::to_string(&state).unwrap();
        assert!(text.contains(r#"["commerce=disk","bank=memory"]"#), "{text}");
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let dir = std::env::temp_dir().join(format!("millrace-state-{}", std::process::id()));
        let layout = Layout::new(&dir).unwrap();
        layout.create().unwrap();
        assert_eq!(State::load(&layout).unwrap(), None);
        let state = State { port_base: Some(20000), ..State::default() };
        state.save(&layout).unwrap();
        assert_eq!(State::load(&layout).unwrap(), Some(state));
        fs::write(layout.state(), r#"{"format": 99}"#).unwrap();
        assert!(State::load(&layout).unwrap_err().to_string().contains("format 99"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
