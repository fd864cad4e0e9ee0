//! The Noise cipher for Python: `NoiseTransport`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runner_proto::noise::{KEY_LEN, Transport};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<NoiseTransport>()
}

#[pyclass(module = "runner._core")]
struct NoiseTransport(Transport);

#[pymethods]
impl NoiseTransport {
    #[new]
    fn new(send_key: &[u8], receive_key: &[u8]) -> PyResult<Self> {
        Ok(Self(Transport::new(key("send_key", send_key)?, key("receive_key", receive_key)?)))
    }

    fn seal<'py>(&mut self, py: Python<'py>, plain: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut frame = Vec::with_capacity(plain.len() + Transport::OVERHEAD);
        frame.extend_from_slice(plain);
        self.0.seal(&mut frame, 0).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(py, &frame))
    }

    fn open<'py>(&mut self, py: Python<'py>, frame: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut frame = frame.to_vec();
        let plain = self.0.open(&mut frame).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(py, plain))
    }
}

fn key(name: &str, bytes: &[u8]) -> PyResult<[u8; KEY_LEN]> {
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("{name}: {} bytes, and a key has {KEY_LEN}", bytes.len())))
}
