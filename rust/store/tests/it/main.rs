//! The store through its public face, on real files.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test crate; a failed unwrap is a failed test")]

mod backup;
mod batches;
mod crash;
mod damage;
mod decrypted;
mod inbox;
mod linking;
mod locked;
mod model;
mod opening;
mod outbox;
mod power_loss;
mod records;
mod sessions;
mod support;
