//! The engine on real sockets, against the simulator and against servers that misbehave below it.
//!
//! Nothing sleeps: a test waits for an event with a ceiling of real time, and turns the engine's clock by hand.

mod closing;
mod dialling;
mod fairness;
mod linking;
mod login;
mod memory;
mod store_fails;
mod store_full;
mod store_lag;
mod store_locked;
mod support;
mod undrained;
