//! The simulator for Python.

use std::path::PathBuf;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use runner_sim::{Options, Simulator as Running};

#[pyclass(module = "runner._core")]
struct Simulator {
    /// `None` once stopped.
    running: Option<Running>,
    url: String,
    control: String,
    root_key_hex: String,
    ca_file: String,
    credentials: String,
}

#[pymethods]
impl Simulator {
    #[new]
    #[pyo3(signature = (*, port=0, control_port=0, sessions=0, tls=false, directory))]
    fn new(
        py: Python<'_>,
        port: u16,
        control_port: u16,
        sessions: u32,
        tls: bool,
        directory: PathBuf,
    ) -> PyResult<Self> {
        let options = Options { port, control_port, sessions, tls, ..Options::new(directory) };
        let running =
            py.detach(|| Running::start(options)).map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self {
            url: running.url().to_owned(),
            control: running.control().to_owned(),
            root_key_hex: running.root_key_hex().to_owned(),
            ca_file: running.ca_file().to_string_lossy().into_owned(),
            credentials: running.credentials().to_string_lossy().into_owned(),
            running: Some(running),
        })
    }

    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    #[getter]
    fn control(&self) -> &str {
        &self.control
    }

    #[getter]
    fn root_key_hex(&self) -> &str {
        &self.root_key_hex
    }

    #[getter]
    fn ca_file(&self) -> Option<&str> {
        Some(&self.ca_file)
    }

    #[getter]
    fn credentials(&self) -> &str {
        &self.credentials
    }

    #[getter]
    fn running(&self) -> bool {
        self.running.as_ref().is_some_and(Running::is_running)
    }

    fn stop(&mut self, py: Python<'_>) {
        if let Some(running) = self.running.take() {
            py.detach(|| running.stop());
        }
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Simulator>()
}
