//! One connection from "the transport is up" to its close reason, sans-IO.

mod config;
mod input;

pub use config::{Config, Identity};
pub use input::{Buffers, Input};
