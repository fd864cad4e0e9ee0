//! What a session is told: settings shared by all, and whose connection it is.

use std::time::Duration;

use crate::{
    cert::{CachedServerKey, WHATSAPP_ROOT},
    keepalive::KeepAlive,
    node::Limits,
    noise::{KEY_LEN, KeyPair},
};

/// Settings of all sessions of one endpoint; shared, never changed while connected.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `Host` of the upgrade request, with the port when it is not the scheme's own.
    pub host: String,
    /// The path of the upgrade request.
    pub path: String,
    /// The `Origin` of the upgrade request.
    pub origin: String,
    /// The certificate root to trust.
    pub root_key: [u8; KEY_LEN],
    /// Pings and the dead-socket clock.
    pub keepalive: KeepAlive,
    /// Bounds `upgrading` and `handshaking`, each.
    pub handshake_timeout: Duration,
    /// Bounds `authenticating`.
    pub login_timeout: Duration,
    /// How long a request (iq) waits for its answer.
    pub query_timeout: Duration,
    /// Bounds on what a stanza may be.
    pub limits: Limits,
}

impl Default for Config {
    /// The real endpoint, with the defaults of the settings.
    fn default() -> Self {
        Self {
            host: "web.whatsapp.com".to_owned(),
            path: "/ws/chat".to_owned(),
            origin: "https://web.whatsapp.com".to_owned(),
            root_key: WHATSAPP_ROOT,
            keepalive: KeepAlive::DEFAULT,
            handshake_timeout: Duration::from_secs(20),
            login_timeout: Duration::from_secs(60),
            query_timeout: Duration::from_secs(60),
            limits: Limits::default(),
        }
    }
}

/// Whose connection it is. Needed until the handshake is over, then dropped.
#[derive(Debug)]
pub struct Identity {
    /// The device's long-term Noise key.
    pub noise: KeyPair,
    /// The user part of the own phone-number JID.
    pub username: u64,
    /// The own device number.
    pub device: u32,
    /// The name that others see.
    pub push_name: Option<String>,
    /// From the last connection's `<edge_routing>`.
    pub routing_info: Option<Vec<u8>>,
    /// The server's key of an earlier connection, when resuming (IK) is wanted.
    pub server_key: Option<CachedServerKey>,
    /// The client version to claim, `2.3000.N`.
    pub version: [u32; 3],
}
