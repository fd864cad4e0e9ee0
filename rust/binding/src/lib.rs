//! `runner._core`: translation between Python and the Rust crates, no decisions.
//!
//! What the module offers is documented in `python/runner/_core.pyi` and nowhere else.

mod build_info;
mod columns;
mod config;
mod engine;
mod event;
mod facts;
mod message;
mod moving;
mod noise;
mod outbox;
mod outgoing;
mod sim;
mod stats;
mod store;
mod wire;

use pyo3::prelude::*;

// `gil_used`: not audited for free threading yet.
#[pymodule(gil_used = true)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    build_info::register(m)?;
    facts::register(m)?;
    engine::register(m)?;
    sim::register(m)?;
    message::register(m)?;
    store::register(m)?;
    outbox::register(m)?;
    moving::register(m)?;
    noise::register(m)?;
    wire::register(m)
}
