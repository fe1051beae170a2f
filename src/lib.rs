#![doc = include_str!("ARCHITECTURE.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("pushpulld needs Linux: it watches its workers through pidfds");

pub mod client;
pub mod config;
pub mod engine;
pub mod model;
pub mod shell;
pub mod store;
pub mod wire;
pub mod worker;
