//! A WhatsApp Web server on loopback: for tests, for demos, for load.
//!
//! It speaks what a client sees of the real service (docs/protocol.md): TLS, the WebSocket upgrade, the Noise handshake
//! with a certificate chain of its own root, login by Noise static key, the answers to a client's iqs, offline backlog,
//! pushes, and faults on command. docs/simulator.md is its manual.
//!
//! [`core`] is sans-IO; [`Simulator`] runs it on real sockets and a thread of its own.

pub mod core;
mod server;

pub use server::{CallError, DEFAULT_SEED, Options, Simulator, StartError};
