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
    /// The encoded [`ClientPayload`](crate::payload::ClientPayload): a login, or the registration of a new device.
    pub payload: Vec<u8>,
    /// The payload is a registration: the connection stays in `authenticating` until a phone has linked the device,
    /// and the server's `md` requests are the caller's to answer.
    pub registers: bool,
    /// From the last connection's `<edge_routing>`.
    pub routing_info: Option<Vec<u8>>,
    /// The server's key of an earlier connection, when resuming (IK) is wanted.
    pub server_key: Option<CachedServerKey>,
}
