//! The binary as its users meet it: over sockets, with signals, from a configuration file. Each test
//! starts its own server on free ports of the loopback interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod admin;
mod clients;
mod clock;
mod commands;
mod console;
mod disk;
mod floods;
mod handover;
mod heads;
mod http2;
mod lifecycle;
mod log;
mod optimize;
mod providers;
mod redis;
mod secrets;
mod smuggling;
mod support;
mod traces;
