//! The counters of all sessions as flat columns: what a fleet of ten thousand can be read by, ten times cheaper
//! than by objects. Elements are in the machine's byte order; the stub says which type each column has.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use runner_engine::{Fleet, SessionCounters};
use runner_proto::counters::Counters;
use runner_proto::phase::Phase;
use runner_proto::time::Instant;
use std::sync::Arc;
use std::time::Duration;

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct CounterColumns {
    fleet: Fleet,
    copy_age: Duration,
    totals: Counters,
    online: usize,
    oldest_unanswered: Duration,
    session_ids: Vec<Option<Arc<str>>>,
    births: Vec<u8>,
    connections: Vec<u8>,
    phases: Vec<u8>,
    online_ages_s: Vec<u8>,
    last_data_ages_s: Vec<u8>,
    last_pong_ages_s: Vec<u8>,
    pong_rtts_s: Vec<u8>,
    pings_unanswered: Vec<u8>,
    messages_received: Vec<u8>,
    messages_undecrypted: Vec<u8>,
    messages_sent: Vec<u8>,
    sends_failed: Vec<u8>,
    requests_failed: Vec<u8>,
    stanzas_malformed: Vec<u8>,
    responses: Vec<u8>,
    response_sums_us: Vec<u8>,
    response_buckets: Vec<u8>,
}

impl CounterColumns {
    /// Ages run to `now`, although the copy may be an old one.
    pub(crate) fn new(rows: &[SessionCounters], fleet: &Fleet, now: Instant) -> Self {
        let mut by_row: Vec<Option<&SessionCounters>> = vec![None; fleet.rows as usize];
        for row in rows {
            if let Some(place) = by_row.get_mut(row.place.row as usize) {
                *place = Some(row);
            }
        }
        let n = by_row.len();
        let mut columns = Self {
            fleet: *fleet,
            copy_age: rows.first().map_or(Duration::ZERO, |row| now - row.at),
            totals: fleet.retired,
            online: 0,
            oldest_unanswered: Duration::ZERO,
            session_ids: Vec::with_capacity(n),
            births: Vec::with_capacity(8 * n),
            connections: Vec::with_capacity(8 * n),
            phases: Vec::with_capacity(n),
            online_ages_s: Vec::with_capacity(8 * n),
            last_data_ages_s: Vec::with_capacity(8 * n),
            last_pong_ages_s: Vec::with_capacity(8 * n),
            pong_rtts_s: Vec::with_capacity(8 * n),
            pings_unanswered: Vec::with_capacity(4 * n),
            messages_received: Vec::with_capacity(8 * n),
            messages_undecrypted: Vec::with_capacity(4 * n),
            messages_sent: Vec::with_capacity(8 * n),
            sends_failed: Vec::with_capacity(4 * n),
            requests_failed: Vec::with_capacity(4 * n),
            stanzas_malformed: Vec::with_capacity(4 * n),
            responses: Vec::with_capacity(8 * n),
            response_sums_us: Vec::with_capacity(8 * n),
            response_buckets: Vec::with_capacity(2 * n * Counters::default().responses.buckets().len()),
        };
        let nobody = Counters::default();
        for row in by_row {
            match row {
                Some(row) => {
                    columns.session_ids.push(Some(Arc::clone(&row.session_id)));
                    columns.push(row.place.birth, row.connection, row.phase, &row.totals, now);
                    columns.totals.add_totals(&row.totals);
                }
                None => {
                    columns.session_ids.push(None);
                    columns.push(0, 0, Phase::Closed, &nobody, now);
                }
            }
        }
        columns
    }

    fn push(&mut self, birth: u64, connection: u64, phase: Phase, totals: &Counters, now: Instant) {
        let age_s = |since: Option<Instant>| {
            since.map_or(f64::NAN, |since| (now - since).as_secs_f64()).to_ne_bytes()
        };
        self.online += usize::from(totals.online_since.is_some());
        if let Some(since) = totals.oldest_unanswered {
            self.oldest_unanswered = self.oldest_unanswered.max(now - since);
        }
        self.births.extend(birth.to_ne_bytes());
        self.connections.extend(connection.to_ne_bytes());
        self.phases.push(phase as u8);
        self.online_ages_s.extend(age_s(totals.online_since));
        self.last_data_ages_s.extend(age_s(totals.last_data));
        self.last_pong_ages_s.extend(age_s(totals.last_pong));
        self.pong_rtts_s.extend(totals.pong_rtt.map_or(f64::NAN, |rtt| rtt.as_secs_f64()).to_ne_bytes());
        self.pings_unanswered
            .extend(u32_of(totals.pings_sent.saturating_sub(totals.pongs_received)).to_ne_bytes());
        self.messages_received.extend(totals.messages_received.to_ne_bytes());
        self.messages_undecrypted.extend(u32_of(totals.messages_undecrypted).to_ne_bytes());
        self.messages_sent.extend(totals.messages_sent.to_ne_bytes());
        self.sends_failed.extend(totals.sends_failed.to_ne_bytes());
        self.requests_failed.extend(totals.requests_failed.to_ne_bytes());
        self.stanzas_malformed.extend(u32_of(totals.stanzas_malformed).to_ne_bytes());
        self.responses.extend(totals.responses.count().to_ne_bytes());
        self.response_sums_us.extend(totals.responses.sum_us().to_ne_bytes());
        for count in totals.responses.buckets() {
            // Modulo 65,536: the reader takes differences over minutes and compares them with `responses`.
            self.response_buckets.extend((*count as u16).to_ne_bytes());
        }
    }
}

fn u32_of(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[pymethods]
impl CounterColumns {
    #[getter]
    fn rows(&self) -> u32 {
        self.fleet.rows
    }

    #[getter]
    fn copy_age_s(&self) -> f64 {
        self.copy_age.as_secs_f64()
    }

    #[getter]
    fn changes(&self) -> u64 {
        self.fleet.changes
    }

    #[getter]
    fn online(&self) -> usize {
        self.online
    }

    #[getter]
    fn oldest_unanswered_age_s(&self) -> f64 {
        self.oldest_unanswered.as_secs_f64()
    }

    fn session_id(&self, row: usize) -> Option<&str> {
        self.session_ids.get(row)?.as_deref()
    }

    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let totals = PyDict::new(py);
        totals.set_item("frames_received", self.totals.frames_received)?;
        totals.set_item("frames_sent", self.totals.frames_sent)?;
        totals.set_item("bytes_received", self.totals.bytes_received)?;
        totals.set_item("bytes_sent", self.totals.bytes_sent)?;
        totals.set_item("stanzas_malformed", self.totals.stanzas_malformed)?;
        totals.set_item("messages_received", self.totals.messages_received)?;
        totals.set_item("messages_undecrypted", self.totals.messages_undecrypted)?;
        totals.set_item("records_unreadable", self.totals.records_unreadable)?;
        totals.set_item("messages_sent", self.totals.messages_sent)?;
        totals.set_item("messages_resent", self.totals.messages_resent)?;
        totals.set_item("messages_not_resent", self.totals.messages_not_resent)?;
        totals.set_item("sends_failed", self.totals.sends_failed)?;
        totals.set_item("pings_sent", self.totals.pings_sent)?;
        totals.set_item("pongs_received", self.totals.pongs_received)?;
        totals.set_item("requests_sent", self.totals.requests_sent)?;
        totals.set_item("requests_failed", self.totals.requests_failed)?;
        totals.set_item("response_count", self.totals.responses.count())?;
        totals.set_item("response_sum_s", self.totals.responses.sum_us() as f64 / 1e6)?;
        Ok(totals)
    }

    #[getter]
    fn response_totals(&self) -> Vec<u32> {
        self.totals.responses.buckets().to_vec()
    }

    #[getter]
    fn births<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.births)
    }

    #[getter]
    fn connections<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.connections)
    }

    #[getter]
    fn phases<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.phases)
    }

    #[getter]
    fn online_ages_s<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.online_ages_s)
    }

    #[getter]
    fn last_data_ages_s<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.last_data_ages_s)
    }

    #[getter]
    fn last_pong_ages_s<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.last_pong_ages_s)
    }

    #[getter]
    fn pong_rtts_s<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.pong_rtts_s)
    }

    #[getter]
    fn pings_unanswered<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.pings_unanswered)
    }

    #[getter]
    fn messages_received<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.messages_received)
    }

    #[getter]
    fn messages_undecrypted<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.messages_undecrypted)
    }

    #[getter]
    fn messages_sent<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.messages_sent)
    }

    #[getter]
    fn sends_failed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.sends_failed)
    }

    #[getter]
    fn requests_failed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.requests_failed)
    }

    #[getter]
    fn stanzas_malformed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.stanzas_malformed)
    }

    #[getter]
    fn responses<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.responses)
    }

    #[getter]
    fn response_sums_us<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.response_sums_us)
    }

    #[getter]
    fn response_buckets<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.response_buckets)
    }
}
