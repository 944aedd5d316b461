//! `millrace`: starts, watches, breaks and stops the native cluster.
//!
//! One process supervises: three Kafka brokers, Elasticsearch, and Millrace's own programs, each in its own process
//! group. `up` is that process (or starts it, with `--detach`); every other command talks to it over a Unix socket in
//! the data folder, or reads the folder.
//!
//! | concern | module |
//! |---|---|
//! | commands | [`cli`], [`up`], [`commands`], [`health`], [`logs`], [`terminal`], [`chaos`], [`verify`] |
//! | one start, from checks to a clean stop | [`supervisor`], [`component`], [`board`] |
//! | what runs | [`specs`], [`kafka`], [`elasticsearch`], [`fetch`], [`process`] |
//! | the same in containers | [`provision`] |
//! | `millrace bench` | [`bench`] |
//! | the data folder | [`layout`], [`state`], [`credentials`], [`connection`] |
//!
//! Invariant: the supervisor has one thread of its own, and only that thread starts processes: the kernel ends them
//! when it ends, however that happens.

pub mod account;
pub mod backoff;
pub mod base64;
pub mod bench;
pub mod board;
pub mod chaos;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod component;
pub mod connection;
pub mod control;
pub mod credentials;
pub mod elasticsearch;
pub mod fetch;
pub mod health;
pub mod http;
pub mod kafka;
pub mod layout;
pub mod logfile;
pub mod logs;
pub mod out;
pub mod ports;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod provision;
pub mod ready;
pub mod records;
pub mod reset;
pub mod savepoint;
pub mod server;
pub mod specs;
pub mod state;
pub mod supervisor;
pub mod telemetry;
pub mod terminal;
pub mod topics;
pub mod up;
pub mod usage;
pub mod verify;
