//! The settings of all clients of one engine.

use std::{sync::Arc, time::Duration};

use runner_proto::session;

/// Settings of the account logic, and of the session below it; shared, never changed while connected.
#[derive(Clone, Debug)]
pub struct Config {
    /// The session's own settings.
    pub session: Arc<session::Config>,
    /// How often the passive probe asks the server for something, give or take a tenth.
    pub probe_interval: Duration,
    /// How long after login the end of the offline backlog may take.
    pub offline_timeout: Duration,
    /// How long the server may take to acknowledge a send before the session counts as deaf.
    pub send_ack_timeout: Duration,
    /// How long a send is remembered.
    pub send_timeout: Duration,
    /// How long an inbound stanza may wait for its answer while the store commits.
    pub stanza_answer_timeout: Duration,
    /// How long the store may hang before the connection is closed; a lock of another process is no such thing.
    pub store_stall: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session: Arc::default(),
            probe_interval: Duration::from_secs(300),
            offline_timeout: Duration::from_secs(60),
            send_ack_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(75),
            stanza_answer_timeout: Duration::from_secs(30),
            store_stall: Duration::from_secs(20),
        }
    }
}
