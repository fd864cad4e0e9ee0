//! The engine's settings, checked on construction.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use runner_client::Config as ClientConfig;
use runner_engine::{Config, Endpoint, HELD_INPUT_LIMIT, MIN_HELD_INPUT_LIMIT};
use runner_proto::keepalive::KeepAlive;
use runner_proto::session;
use std::sync::Arc;
use std::time::Duration;

// A literal below, because the stub shows it.
const _: () = assert!(HELD_INPUT_LIMIT == 268_435_456);

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct EngineConfig(Config);

impl EngineConfig {
    pub(crate) fn inner(&self) -> &Config {
        &self.0
    }
}

#[pymethods]
impl EngineConfig {
    #[new]
    #[pyo3(signature = (
        *, endpoint, root_key = None, tls_ca_pem = None, connect_timeout_s = 20.0, handshake_timeout_s = 20.0,
        login_timeout_s = 60.0, query_timeout_s = 60.0, send_timeout_s = 75.0, keepalive_min_s = 15.0,
        keepalive_max_s = 20.0, keepalive_second_s = 6.0, dead_socket_s = 12.0, probe_interval_s = 300.0,
        offline_timeout_s = 60.0, stanza_answer_timeout_s = 30.0, store_stall_s = 20.0, outbox_capacity = 65536,
        held_input_limit_bytes = 268435456
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one Python constructor")]
    fn new(
        endpoint: &str,
        root_key: Option<Vec<u8>>,
        tls_ca_pem: Option<Vec<u8>>,
        connect_timeout_s: f64,
        handshake_timeout_s: f64,
        login_timeout_s: f64,
        query_timeout_s: f64,
        send_timeout_s: f64,
        keepalive_min_s: f64,
        keepalive_max_s: f64,
        keepalive_second_s: f64,
        dead_socket_s: f64,
        probe_interval_s: f64,
        offline_timeout_s: f64,
        stanza_answer_timeout_s: f64,
        store_stall_s: f64,
        outbox_capacity: usize,
        held_input_limit_bytes: usize,
    ) -> PyResult<Self> {
        let endpoint = Endpoint::parse(endpoint).map_err(|error| invalid("endpoint", error))?;
        if endpoint.is_whatsapp() {
            for (field, given) in [("root_key", root_key.is_some()), ("tls_ca_pem", tls_ca_pem.is_some())] {
                if given {
                    return Err(invalid(field, "must not be set for the real host"));
                }
            }
        }
        let mut session = session::Config {
            host: endpoint.host_header(),
            path: endpoint.path.to_string(),
            keepalive: KeepAlive {
                min: seconds("keepalive_min_s", keepalive_min_s)?,
                max: seconds("keepalive_max_s", keepalive_max_s)?,
                second_after: seconds("keepalive_second_s", keepalive_second_s)?,
                dead_after: seconds("dead_socket_s", dead_socket_s)?,
            },
            handshake_timeout: seconds("handshake_timeout_s", handshake_timeout_s)?,
            login_timeout: seconds("login_timeout_s", login_timeout_s)?,
            query_timeout: seconds("query_timeout_s", query_timeout_s)?,
            ..session::Config::default()
        };
        if session.keepalive.min > session.keepalive.max {
            return Err(invalid("keepalive_max_s", "must not be below keepalive_min_s"));
        }
        if session.keepalive.second_after > session.keepalive.dead_after {
            return Err(invalid("dead_socket_s", "must not be below keepalive_second_s"));
        }
        if let Some(key) = root_key {
            session.root_key = key.try_into().map_err(|_| invalid("root_key", "must be 32 bytes"))?;
        }
        if outbox_capacity == 0 {
            return Err(invalid("outbox_capacity", "must be positive"));
        }
        if held_input_limit_bytes < MIN_HELD_INPUT_LIMIT {
            return Err(invalid(
                "held_input_limit_bytes",
                format_args!("must be at least {MIN_HELD_INPUT_LIMIT}, not {held_input_limit_bytes}"),
            ));
        }
        let client = ClientConfig {
            session: Arc::new(session),
            probe_interval: seconds("probe_interval_s", probe_interval_s)?,
            offline_timeout: seconds("offline_timeout_s", offline_timeout_s)?,
            send_timeout: seconds("send_timeout_s", send_timeout_s)?,
            stanza_answer_timeout: seconds("stanza_answer_timeout_s", stanza_answer_timeout_s)?,
            store_stall: seconds("store_stall_s", store_stall_s)?,
            ..ClientConfig::default()
        };
        let connect_timeout = seconds("connect_timeout_s", connect_timeout_s)?;
        Ok(Self(Config {
            endpoint,
            tls_ca_pem,
            connect_timeout,
            client: Arc::new(client),
            outbox_capacity,
            held_input_limit: held_input_limit_bytes,
        }))
    }
}

fn invalid(field: &str, why: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{field}: {why}"))
}

/// A positive, finite number of seconds, at most a year.
fn seconds(field: &str, value: f64) -> PyResult<Duration> {
    const YEAR_S: f64 = 365.0 * 24.0 * 3600.0;
    if value > 0.0 && value <= YEAR_S {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(invalid(field, "must be a positive number of seconds"))
    }
}
