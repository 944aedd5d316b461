//! `millrace`: see the library.

use std::process::ExitCode;

use clap::Parser;
use millrace_launcher::{cli, out, process};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let [_, first, rest @ ..] = args.as_slice()
        && first == process::WRAPPER
    {
        return finish(process::become_program(rest).map(|()| ExitCode::SUCCESS));
    }
    let command = cli::Cli::parse();
    // One thread: see the library's invariant. Blocking calls of the Kafka client go to helper threads.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let result = runtime.block_on(tokio::task::LocalSet::new().run_until(cli::run(command)));
    runtime.shutdown_background();
    finish(result)
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        out::complain(format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
