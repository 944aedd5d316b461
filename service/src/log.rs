//! Logs: one line an event on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::ServiceArgs;

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For machines.
    Json,
    /// For people.
    Pretty,
}

/// Starts logging. Call once, first.
///
/// # Errors
/// The filter can't be read, or logging has been started already.
pub fn init(args: &ServiceArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|e| anyhow::anyhow!("the log filter {:?} can't be read: {e}", args.log))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let format = args.log_format.unwrap_or(if terminal { Format::Pretty } else { Format::Json });
    match format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Pretty => builder.with_ansi(terminal).try_init(),
    }
    .map_err(|e| anyhow::anyhow!("logging can't be started: {e}"))
}
