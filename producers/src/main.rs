//! The process `millrace-producers`.

use clap::Parser;
use millrace_producers::config::Config;
use millrace_producers::process;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    millrace_service::log::init(&config.service)?;
    process::run(config).await
}
