//! An event as Python sees it: one flat class, `None` where a field has no meaning for the kind.

use pyo3::prelude::*;
use runner_client::NoCode;
use runner_engine::EventKind;
use runner_proto::close_reason::Closed;

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct Event(runner_engine::Event);

impl From<runner_engine::Event> for Event {
    fn from(event: runner_engine::Event) -> Self {
        Self(event)
    }
}

impl Event {
    fn closed(&self) -> Option<&Closed> {
        if let EventKind::Closed(closed) = &self.0.kind { Some(closed) } else { None }
    }
}

#[pymethods]
impl Event {
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind.slug()
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    #[getter]
    fn connection(&self) -> u64 {
        self.0.connection
    }

    #[getter]
    fn at_unix_ms(&self) -> u64 {
        self.0.at_unix_ms
    }

    #[getter]
    fn phase(&self) -> Option<&'static str> {
        match &self.0.kind {
            EventKind::Phase(phase) => Some(phase.slug()),
            EventKind::Closed(closed) => Some(closed.phase.slug()),
            _ => None,
        }
    }

    #[getter]
    fn reason(&self) -> Option<&'static str> {
        match &self.0.kind {
            EventKind::Closed(closed) => Some(closed.reason.slug()),
            EventKind::NoPairingCode(why) => Some(why.slug()),
            EventKind::Sent { outcome: Err(failure), .. } => Some(failure.slug()),
            _ => None,
        }
    }

    #[getter]
    fn code(&self) -> Option<u32> {
        match &self.0.kind {
            EventKind::Closed(closed) => closed.code,
            EventKind::NoPairingCode(NoCode::Refused(code)) => *code,
            EventKind::Sent { outcome: Err(failure), .. } => failure.code(),
            _ => None,
        }
    }

    #[getter]
    fn detail(&self) -> Option<&str> {
        match &self.0.kind {
            EventKind::Closed(closed) => Some(&closed.detail),
            EventKind::Probe { detail, .. } => Some(detail),
            EventKind::Store { detail, .. } => Some(detail),
            EventKind::IdentityChanged { jid } => Some(jid),
            EventKind::KeysDiffer { what } => Some(what),
            EventKind::RecordUnreadable { kind } => Some(kind),
            _ => None,
        }
    }

    #[getter]
    fn qr(&self) -> Option<&str> {
        if let EventKind::Qr { text, .. } = &self.0.kind { Some(&text.0) } else { None }
    }

    #[getter]
    fn qr_left(&self) -> Option<usize> {
        if let EventKind::Qr { left, .. } = self.0.kind { Some(left) } else { None }
    }

    #[getter]
    fn pairing_code(&self) -> Option<&str> {
        if let EventKind::PairingCode { text, .. } = &self.0.kind { Some(&text.0) } else { None }
    }

    #[getter]
    fn ttl_s(&self) -> Option<f64> {
        match self.0.kind {
            EventKind::Qr { ttl, .. } | EventKind::PairingCode { ttl, .. } => Some(ttl.as_secs_f64()),
            _ => None,
        }
    }

    #[getter]
    fn token(&self) -> Option<u64> {
        if let EventKind::Sent { token, .. } = self.0.kind { Some(token) } else { None }
    }

    #[getter]
    fn server_unix_s(&self) -> Option<u64> {
        match self.0.kind {
            EventKind::Sent { outcome: Ok(receipt), .. } => receipt.server_unix_s,
            _ => None,
        }
    }

    #[getter]
    fn expire_s(&self) -> Option<u64> {
        self.closed()?.expire_s
    }

    #[getter]
    fn probe(&self) -> Option<&'static str> {
        if let EventKind::Probe { probe, .. } = &self.0.kind { Some(probe.slug()) } else { None }
    }

    #[getter]
    fn healthy(&self) -> Option<bool> {
        match self.0.kind {
            EventKind::Probe { healthy, .. } | EventKind::Store { healthy, .. } => Some(healthy),
            _ => None,
        }
    }

    #[getter]
    fn handshake(&self) -> Option<&'static str> {
        if let EventKind::Online { handshake, .. } = self.0.kind { Some(handshake.slug()) } else { None }
    }

    #[getter]
    fn jid(&self) -> Option<&str> {
        if let EventKind::Online { me, .. } = &self.0.kind { Some(&me.jid) } else { None }
    }

    #[getter]
    fn push_name(&self) -> Option<&str> {
        if let EventKind::Online { me, .. } = &self.0.kind { me.push_name.as_deref() } else { None }
    }

    #[getter]
    fn duration_s(&self) -> Option<f64> {
        if let EventKind::Online { duration, .. } = self.0.kind { Some(duration.as_secs_f64()) } else { None }
    }

    #[getter]
    fn clock_offset_s(&self) -> Option<f64> {
        if let EventKind::ClockOffset { offset_ms } = self.0.kind {
            Some(offset_ms as f64 / 1000.0)
        } else {
            None
        }
    }

    fn __repr__(&self) -> String {
        let runner_engine::Event { session_id, connection, kind, .. } = &self.0;
        let reason =
            self.reason().or_else(|| self.phase()).map(|word| format!(" {word}")).unwrap_or_default();
        format!("Event({} {session_id:?}/{connection}{reason})", kind.slug())
    }
}
