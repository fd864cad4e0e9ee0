//! The closed sets of words that cross the boundary, close reasons and phases; and the one piece of arithmetic that
//! Python needs.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runner_proto::close_reason::CloseReason;
use runner_proto::counters::RESPONSE_BOUNDS_MS;
use runner_proto::noise::KeyPair;
use runner_proto::phase::Phase;

#[pyclass(frozen, module = "runner._core")]
struct CloseReasonInfo(CloseReason);

#[pymethods]
impl CloseReasonInfo {
    #[getter]
    fn slug(&self) -> &'static str {
        self.0.slug()
    }

    #[getter]
    fn source(&self) -> &'static str {
        self.0.source().slug()
    }

    #[getter]
    fn code(&self) -> Option<u32> {
        self.0.code()
    }

    #[getter]
    fn summary(&self) -> &'static str {
        self.0.summary()
    }

    fn __repr__(&self) -> String {
        format!("CloseReasonInfo({})", self.0.slug())
    }
}

#[pyfunction]
fn close_reasons() -> Vec<CloseReasonInfo> {
    CloseReason::ALL.iter().copied().map(CloseReasonInfo).collect()
}

#[pyfunction]
fn phases() -> Vec<&'static str> {
    Phase::ALL.iter().map(|phase| phase.slug()).collect()
}

#[pyfunction]
fn x25519_public_key<'py>(py: Python<'py>, secret: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let secret = secret
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("secret: {} bytes, not 32", secret.len())))?;
    Ok(PyBytes::new(py, KeyPair::from_secret(secret).public()))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let bounds_s = RESPONSE_BOUNDS_MS.map(|bound_ms| f64::from(bound_ms) / 1000.0);
    m.add("RESPONSE_BUCKETS_S", pyo3::types::PyTuple::new(m.py(), bounds_s)?)?;
    m.add_class::<CloseReasonInfo>()?;
    m.add_function(wrap_pyfunction!(close_reasons, m)?)?;
    m.add_function(wrap_pyfunction!(phases, m)?)?;
    m.add_function(wrap_pyfunction!(x25519_public_key, m)?)
}
