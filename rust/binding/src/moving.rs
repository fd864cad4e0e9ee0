//! A session for another program, and a store out of a backup, for Python.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runner_client::export::Export;
use runner_engine::{export_session, restore_backup};
use runner_store::{Exported, Made, Restored, Store};

use crate::store::raise;

/// Bytes for Python.
type Bytes<'py> = Bound<'py, PyBytes>;

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct ExportedDevice {
    device: Exported,
    export: Export,
}

impl ExportedDevice {
    pub(crate) fn of(store: &Store, session_id: &str) -> Result<Self, runner_store::StoreError> {
        let (device, export) = export_session(store, session_id, now_unix_ms())?;
        Ok(Self { device, export })
    }
}

#[pymethods]
impl ExportedDevice {
    #[getter]
    fn jid(&self) -> &str {
        &self.device.credentials.jid
    }

    #[getter]
    fn lid(&self) -> Option<&str> {
        self.device.credentials.lid.as_deref()
    }

    #[getter]
    fn push_name(&self) -> Option<&str> {
        self.device.credentials.push_name.as_deref()
    }

    #[getter]
    fn platform(&self) -> Option<&str> {
        self.device.credentials.platform.as_deref()
    }

    #[getter]
    fn registration_id(&self) -> u32 {
        self.device.credentials.registration_id
    }

    #[getter]
    fn noise_secret<'py>(&self, py: Python<'py>) -> Bytes<'py> {
        PyBytes::new(py, self.device.credentials.noise_secret.expose())
    }

    #[getter]
    fn identity_secret<'py>(&self, py: Python<'py>) -> Bytes<'py> {
        PyBytes::new(py, self.device.credentials.identity_secret.expose())
    }

    #[getter]
    fn adv_secret<'py>(&self, py: Python<'py>) -> Bytes<'py> {
        PyBytes::new(py, self.device.credentials.adv_secret.expose())
    }

    #[getter]
    fn account<'py>(&self, py: Python<'py>) -> Option<Bytes<'py>> {
        self.device.credentials.account.as_ref().map(|account| PyBytes::new(py, account))
    }

    #[getter]
    fn routing_info<'py>(&self, py: Python<'py>) -> Option<Bytes<'py>> {
        self.device.routing_info.as_ref().map(|info| PyBytes::new(py, info))
    }

    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> Bytes<'py> {
        PyBytes::new(py, self.device.source.expose())
    }

    #[getter]
    fn signed_pre_key<'py>(&self, py: Python<'py>) -> (u32, Bytes<'py>, Bytes<'py>) {
        let own = &self.device.credentials;
        let (id, secret, signature) = match &self.export.signed_pre_key {
            Some((id, secret, signature)) => (*id, secret, signature),
            None => {
                (own.signed_pre_key_id, own.signed_pre_key_secret.expose(), &own.signed_pre_key_signature)
            }
        };
        (id, PyBytes::new(py, secret), PyBytes::new(py, signature))
    }

    #[getter]
    fn pre_key_ids(&self) -> Option<(u32, u32)> {
        self.export.pre_key_ids
    }

    #[getter]
    fn files<'py>(&self, py: Python<'py>) -> Vec<(&str, &str, Bytes<'py>)> {
        self.export
            .files
            .iter()
            .map(|(kind, id, content)| (kind.as_str(), id.as_str(), PyBytes::new(py, content.expose())))
            .collect()
    }

    #[getter]
    fn left_out(&self) -> Vec<String> {
        self.export.left_out.clone()
    }
}

#[pyclass(frozen, get_all, module = "runner._core")]
pub(crate) struct BackupMade {
    bytes: u64,
    sessions: u64,
    at_unix_ms: u64,
    took_s: f64,
}

impl From<Made> for BackupMade {
    fn from(made: Made) -> Self {
        let Made { bytes, sessions, at_unix_ms, took_s } = made;
        Self { bytes, sessions, at_unix_ms, took_s }
    }
}

#[pyclass(frozen, get_all, module = "runner._core")]
struct StoreRestored {
    sessions: u64,
    changed: u64,
    unreadable: Vec<String>,
    at_unix_ms: u64,
    moved_to: Option<PathBuf>,
}

#[pyfunction]
#[pyo3(signature = (path, file, *, replace))]
fn restore_store(py: Python<'_>, path: PathBuf, file: PathBuf, replace: bool) -> PyResult<StoreRestored> {
    let restored = py.detach(|| restore_backup(&path, &file, replace, now_unix_ms())).map_err(raise)?;
    let Restored { sessions, changed, unreadable, at_unix_ms, moved_to } = restored;
    Ok(StoreRestored { sessions, changed, unreadable, at_unix_ms, moved_to })
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ExportedDevice>()?;
    m.add_class::<BackupMade>()?;
    m.add_class::<StoreRestored>()?;
    m.add_function(wrap_pyfunction!(restore_store, m)?)
}
