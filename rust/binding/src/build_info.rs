//! What was compiled.

use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let info = PyDict::new(m.py());
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", env!("RUNNER_PROFILE"))?;
    info.set_item("rustc", env!("RUNNER_RUSTC"))?;
    info.set_item("target", env!("RUNNER_TARGET"))?;
    info.set_item("source_digest", env!("RUNNER_SOURCE_DIGEST"))?;
    m.add("BUILD_INFO", info)
}
