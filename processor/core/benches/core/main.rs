//! How fast the engine is without Kafka: `cargo bench -p millrace-core`, or one of them with
//! `cargo bench -p millrace-core -- tumbling`.
//!
//! Operators are measured in records per second at 1, 10 000 and 1 000 000 keys, state in bytes per second. Allocations are
//! counted: a figure near zero per record is what the steady state should show. One core, nothing else running, or the
//! figures mean nothing.

mod cep;
mod driver;
mod operators;
mod process;
mod state;
mod windows;

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}
