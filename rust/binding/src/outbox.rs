//! The outbox for Python: events for webhooks, and what could not be handed over.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runner_store as store;
use runner_store::NewEvent;

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct Delivery(store::Delivery);

impl From<store::Delivery> for Delivery {
    fn from(delivery: store::Delivery) -> Self {
        Self(delivery)
    }
}

#[pymethods]
impl Delivery {
    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn event_id(&self) -> &str {
        &self.0.event_id
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn chat(&self) -> &str {
        &self.0.chat
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.body)
    }

    #[getter]
    fn at_unix_ms(&self) -> u64 {
        self.0.at_unix_ms
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    #[getter]
    fn not_before_unix_ms(&self) -> u64 {
        self.0.not_before_unix_ms
    }
}

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct Undelivered(store::Undelivered);

impl From<store::Undelivered> for Undelivered {
    fn from(undelivered: store::Undelivered) -> Self {
        Self(undelivered)
    }
}

#[pymethods]
impl Undelivered {
    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn sink(&self) -> &str {
        &self.0.sink
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn id(&self) -> &str {
        &self.0.id
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn chat(&self) -> &str {
        &self.0.chat
    }

    #[getter]
    fn at_unix_ms(&self) -> u64 {
        self.0.at_unix_ms
    }

    #[getter]
    fn died_unix_ms(&self) -> u64 {
        self.0.died_unix_ms
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    #[getter]
    fn why(&self) -> &str {
        &self.0.why
    }
}

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct UnreadMessage(store::Unread);

impl From<store::Unread> for UnreadMessage {
    fn from(unread: store::Unread) -> Self {
        Self(unread)
    }
}

#[pymethods]
impl UnreadMessage {
    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn chat(&self) -> &str {
        &self.0.chat
    }

    #[getter]
    fn sender(&self) -> &str {
        &self.0.sender
    }

    #[getter]
    fn message_id(&self) -> &str {
        &self.0.message_id
    }

    #[getter]
    fn received_unix_ms(&self) -> u64 {
        self.0.received_unix_ms
    }

    #[getter]
    fn failure(&self) -> &str {
        &self.0.failure
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }
}

/// An event as Python gives it: id, name, session, chat, body, Unix milliseconds, webhooks.
pub(crate) type Posted = (String, String, String, String, Vec<u8>, u64, Vec<String>);

pub(crate) fn new_event((event_id, name, session_id, chat, body, at_unix_ms, webhooks): Posted) -> NewEvent {
    NewEvent { event_id, name, session_id, chat, body, at_unix_ms, webhooks }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Delivery>()?;
    m.add_class::<Undelivered>()?;
    m.add_class::<UnreadMessage>()
}
