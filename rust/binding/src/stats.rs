//! Counters of sessions and of the I/O thread: plain numbers, ages in seconds.

use pyo3::prelude::*;
use runner_engine::Stats;
use runner_proto::time::Instant;

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct SessionCounters {
    row: runner_engine::SessionCounters,
    /// When the caller got it.
    read_at: Instant,
}

impl SessionCounters {
    pub(crate) fn new(row: &runner_engine::SessionCounters, read_at: Instant) -> Self {
        Self { row: row.clone(), read_at }
    }

    fn age_s(&self, since: Option<Instant>) -> Option<f64> {
        since.map(|since| (self.read_at - since).as_secs_f64())
    }
}

#[pymethods]
impl SessionCounters {
    #[getter]
    fn session_id(&self) -> &str {
        &self.row.session_id
    }

    #[getter]
    fn connection(&self) -> u64 {
        self.row.connection
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.row.phase.slug()
    }

    #[getter]
    fn copy_age_s(&self) -> f64 {
        (self.read_at - self.row.at).as_secs_f64()
    }

    #[getter]
    fn frames_received(&self) -> u64 {
        self.row.totals.frames_received
    }

    #[getter]
    fn frames_sent(&self) -> u64 {
        self.row.totals.frames_sent
    }

    #[getter]
    fn bytes_received(&self) -> u64 {
        self.row.totals.bytes_received
    }

    #[getter]
    fn bytes_sent(&self) -> u64 {
        self.row.totals.bytes_sent
    }

    #[getter]
    fn stanzas_received(&self) -> u64 {
        self.row.totals.stanzas_received
    }

    #[getter]
    fn stanzas_malformed(&self) -> u64 {
        self.row.totals.stanzas_malformed
    }

    #[getter]
    fn messages_received(&self) -> u64 {
        self.row.totals.messages_received
    }

    #[getter]
    fn messages_undecrypted(&self) -> u64 {
        self.row.totals.messages_undecrypted
    }

    #[getter]
    fn records_unreadable(&self) -> u32 {
        self.row.totals.records_unreadable
    }

    #[getter]
    fn messages_undecodable(&self) -> u64 {
        self.row.totals.messages_undecodable
    }

    #[getter]
    fn answers_sent(&self) -> u64 {
        self.row.totals.answers_sent
    }

    #[getter]
    fn pings_sent(&self) -> u64 {
        self.row.totals.pings_sent
    }

    #[getter]
    fn pongs_received(&self) -> u64 {
        self.row.totals.pongs_received
    }

    #[getter]
    fn requests_sent(&self) -> u32 {
        self.row.totals.requests_sent
    }

    #[getter]
    fn requests_failed(&self) -> u32 {
        self.row.totals.requests_failed
    }

    #[getter]
    fn messages_sent(&self) -> u64 {
        self.row.totals.messages_sent
    }

    #[getter]
    fn messages_resent(&self) -> u32 {
        self.row.totals.messages_resent
    }

    #[getter]
    fn messages_not_resent(&self) -> u32 {
        self.row.totals.messages_not_resent
    }

    #[getter]
    fn sends_failed(&self) -> u32 {
        self.row.totals.sends_failed
    }

    #[getter]
    fn sends_refused(&self) -> u32 {
        self.row.totals.sends_refused
    }

    #[getter]
    fn unanswered(&self) -> u32 {
        self.row.totals.unanswered
    }

    #[getter]
    fn oldest_unanswered_age_s(&self) -> Option<f64> {
        self.age_s(self.row.totals.oldest_unanswered)
    }

    #[getter]
    fn last_data_age_s(&self) -> Option<f64> {
        self.age_s(self.row.totals.last_data)
    }

    #[getter]
    fn last_pong_age_s(&self) -> Option<f64> {
        self.age_s(self.row.totals.last_pong)
    }

    #[getter]
    fn pong_rtt_s(&self) -> Option<f64> {
        self.row.totals.pong_rtt.map(|rtt| rtt.as_secs_f64())
    }

    #[getter]
    fn online_age_s(&self) -> Option<f64> {
        self.age_s(self.row.totals.online_since)
    }

    #[getter]
    fn response_count(&self) -> u64 {
        self.row.totals.responses.count()
    }

    #[getter]
    fn response_sum_s(&self) -> f64 {
        self.row.totals.responses.sum_us() as f64 / 1e6
    }

    #[getter]
    fn response_buckets(&self) -> Vec<u32> {
        self.row.totals.responses.buckets().to_vec()
    }
}

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct EngineStats(Stats);

impl From<Stats> for EngineStats {
    fn from(stats: Stats) -> Self {
        Self(stats)
    }
}

#[pymethods]
impl EngineStats {
    #[getter]
    fn sessions(&self) -> usize {
        self.0.sessions
    }

    #[getter]
    fn dialling(&self) -> usize {
        self.0.dialling
    }

    #[getter]
    fn online(&self) -> usize {
        self.0.online
    }

    #[getter]
    fn loop_lag_s(&self) -> f64 {
        self.0.loop_lag.as_secs_f64()
    }

    #[getter]
    fn heartbeat_age_s(&self) -> f64 {
        self.0.heartbeat_age.as_secs_f64()
    }

    #[getter]
    fn turns_total(&self) -> u64 {
        self.0.turns_total
    }

    #[getter]
    fn wakeups_total(&self) -> u64 {
        self.0.wakeups_total
    }

    #[getter]
    fn outbox_depth(&self) -> usize {
        self.0.outbox_depth
    }

    #[getter]
    fn outbox_dropped_total(&self) -> u64 {
        self.0.outbox_dropped_total
    }

    #[getter]
    fn dials_total(&self) -> u64 {
        self.0.dials_total
    }

    #[getter]
    fn panics_total(&self) -> u64 {
        self.0.panics_total
    }

    #[getter]
    fn store_stalled(&self) -> bool {
        self.0.store_stalled
    }

    #[getter]
    fn tls_resumed_total(&self) -> u64 {
        self.0.tls_resumed_total
    }

    #[getter]
    fn held_input_bytes(&self) -> usize {
        self.0.held_input_bytes
    }
}
