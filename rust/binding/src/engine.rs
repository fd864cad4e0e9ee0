//! The engine for Python: commands that enqueue, counters and stats as snapshots.

use crate::columns::CounterColumns;
use crate::config::EngineConfig;
use crate::event::Event;
use crate::outgoing::OutgoingText;
use crate::stats::{EngineStats, SessionCounters};
use crate::store::Store;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use runner_engine::{OpenRequest, Proxy, Refused, StartError};
use runner_proto::close_reason::{CloseReason, Source};
use runner_proto::node::{Limits, Scratch, decode};
use runner_proto::session::MAX_PLAIN;

create_exception!(_core, EngineClosedError, PyException);
create_exception!(_core, EngineFullError, PyException);

#[pyclass(frozen, module = "runner._core")]
struct Engine(runner_engine::Engine);

#[pymethods]
impl Engine {
    #[new]
    fn new(store: &Store, config: &EngineConfig) -> PyResult<Self> {
        let started = runner_engine::Engine::start(store.handle(), config.inner().clone());
        started.map(Self).map_err(|error| match error {
            StartError::Io(error) => PyOSError::new_err(error),
            StartError::Tls(error) => PyValueError::new_err(error.to_string()),
        })
    }

    fn fileno(&self) -> i32 {
        self.0.fileno()
    }

    fn drain(&self, max_events: usize) -> Vec<Event> {
        self.0.drain(max_events).into_iter().map(Event::from).collect()
    }

    #[pyo3(signature = (session_id, connection, *, version, proxy = None, resume = false, pair = false))]
    fn open(
        &self,
        session_id: &str,
        connection: u64,
        version: (u32, u32, u32),
        proxy: Option<&str>,
        resume: bool,
        pair: bool,
    ) -> PyResult<()> {
        if session_id.is_empty() {
            return Err(PyValueError::new_err("session_id: must not be empty"));
        }
        let proxy = match proxy.map(Proxy::parse) {
            Some(Ok(proxy)) => Some(proxy),
            Some(Err(error)) => return Err(PyValueError::new_err(format!("proxy: {error}"))),
            None => None,
        };
        let version = [version.0, version.1, version.2];
        self.0.open(OpenRequest { session_id, connection, version, proxy, resume, pair }).map_err(refused)
    }

    fn close(&self, session_id: &str, connection: u64, reason: &str) -> PyResult<()> {
        let reason =
            CloseReason::from_slug(reason).filter(|reason| reason.source() == Source::Request).ok_or_else(
                || PyValueError::new_err(format!("reason: {reason:?} is not one of the request reasons")),
            )?;
        ignore_stopped(self.0.close(session_id, connection, reason))
    }

    fn logout(&self, session_id: &str, connection: u64) -> PyResult<()> {
        self.0.logout(session_id, connection).map_err(refused)
    }

    fn link_by_code(&self, session_id: &str, connection: u64, phone: u64) -> PyResult<()> {
        self.0.link_by_code(session_id, connection, phone).map_err(refused)
    }

    fn send(&self, session_id: &str, connection: u64, node: Vec<u8>) -> PyResult<()> {
        if node.len() > MAX_PLAIN {
            let len = node.len();
            return Err(PyValueError::new_err(format!("node: {len} bytes, and a frame holds {MAX_PLAIN}")));
        }
        let mut scratch = Scratch::new();
        if let Err(error) = decode(&node, &mut scratch, &Limits::default()) {
            return Err(PyValueError::new_err(format!("node: {error}")));
        }
        self.0.send(session_id, connection, node).map_err(refused)
    }

    fn send_text(&self, session_id: &str, connection: u64, text: &OutgoingText) -> PyResult<()> {
        self.0.send_text(session_id, connection, text.inner().clone()).map_err(refused)
    }

    fn forget(&self, session_id: &str) -> PyResult<()> {
        ignore_stopped(self.0.forget(session_id))
    }

    fn counters(&self, py: Python<'_>) -> Vec<SessionCounters> {
        py.detach(|| {
            let mut rows = Vec::new();
            self.0.counters(|row| rows.push(SessionCounters::new(row, self.0.now())));
            rows
        })
    }

    fn columns(&self, py: Python<'_>) -> CounterColumns {
        py.detach(|| self.0.with_counters(|rows, fleet| CounterColumns::new(rows, fleet, self.0.now())))
    }

    fn stats(&self) -> EngineStats {
        EngineStats::from(self.0.stats())
    }

    fn shutdown(&self) -> PyResult<()> {
        ignore_stopped(self.0.shutdown())
    }
}

fn refused(refused: Refused) -> PyErr {
    match refused {
        Refused::Stopped => EngineClosedError::new_err(refused.to_string()),
        Refused::Full => EngineFullError::new_err(refused.to_string()),
        Refused::AlreadyOpen => PyRuntimeError::new_err(refused.to_string()),
    }
}

/// What is asked for is so already.
fn ignore_stopped(outcome: Result<(), Refused>) -> PyResult<()> {
    match outcome {
        Ok(()) | Err(Refused::Stopped) => Ok(()),
        Err(other) => Err(refused(other)),
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for (name, error) in [
        ("EngineClosedError", m.py().get_type::<EngineClosedError>()),
        ("EngineFullError", m.py().get_type::<EngineFullError>()),
    ] {
        error.setattr("__module__", "runner._core")?;
        m.add(name, error)?;
    }
    m.add_class::<EngineConfig>()?;
    m.add_class::<Event>()?;
    m.add_class::<OutgoingText>()?;
    m.add_class::<SessionCounters>()?;
    m.add_class::<CounterColumns>()?;
    m.add_class::<EngineStats>()?;
    m.add_class::<Engine>()
}
