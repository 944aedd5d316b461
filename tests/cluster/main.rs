//! Tests of a running cluster: `./test integration`. One at a time; each can be repeated on the same cluster.

// All of this is test code: it asserts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod activity;
mod api;
mod bench;
mod brokers;
mod chaos;
mod dead_letters;
mod disk;
mod exactly_once;
mod first_job;
mod foreign_client;
mod ledger;
mod live;
mod membership;
mod provoked;
mod repartition;
mod savepoints;
mod scenarios;
mod scripts;
mod search;
mod spec_examples;
mod terminal;
mod throughput;
mod transactions;
mod windows;
