//! `millrace-gateway`: see the library.

use clap::Parser;
use millrace_backend::Cli;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    millrace_backend::run(Cli::parse()).await
}
