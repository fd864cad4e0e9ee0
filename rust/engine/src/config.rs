//! What an engine is told once: the endpoint, the limits of time and memory.

use crate::proxy::{Authority, ProxyUrlError, host_and_port};
use runner_proto::frame::MAX_FRAME;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Where sessions connect to: `wss://host[:port]/path`, or `ws://` to loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS, verified.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: Box<str>,
    /// 443 and 80 by default.
    pub port: u16,
    /// Begins with a slash.
    pub path: Box<str>,
}

/// Why an endpoint URL cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Not `wss` or `ws`.
    #[error("the endpoint must start with wss:// (or ws:// on loopback)")]
    Scheme,
    /// No host, no port, or characters that cannot be in them.
    #[error("the endpoint has no valid host or port")]
    Host,
    /// Characters that cannot be in a path.
    #[error("the path of the endpoint is not valid")]
    Path,
    /// `ws://` to somewhere else than this machine.
    #[error("ws:// without TLS is for loopback only")]
    PlainToElsewhere,
}

impl Endpoint {
    /// Parses an endpoint URL.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (secure, default_port, rest) = if let Some(rest) = url.strip_prefix("wss://") {
            (true, 443, rest)
        } else if let Some(rest) = url.strip_prefix("ws://") {
            (false, 80, rest)
        } else {
            return Err(EndpointError::Scheme);
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
            return Err(EndpointError::Path);
        }
        let (host, port) = host_and_port(authority).map_err(|_: ProxyUrlError| EndpointError::Host)?;
        let endpoint =
            Self { secure, host: host.into(), port: port.unwrap_or(default_port), path: path.into() };
        if !secure && !endpoint.is_loopback() {
            return Err(EndpointError::PlainToElsewhere);
        }
        Ok(endpoint)
    }

    /// Whether it names this machine: `localhost` or a loopback address. Other names that resolve to one do not count.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether it belongs to WhatsApp, where nothing may weaken the verification.
    #[must_use]
    pub fn is_whatsapp(&self) -> bool {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        ["whatsapp.com", "whatsapp.net"].iter().any(|domain| {
            host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
    }

    /// The `Host` of the upgrade request: with the port when it is not the scheme's own.
    #[must_use]
    pub fn host_header(&self) -> String {
        let own_port = if self.secure { 443 } else { 80 };
        let with_port = Authority(&self.host, self.port).to_string();
        match with_port.strip_suffix(&format!(":{own_port}")) {
            Some(host) if self.port == own_port => host.to_owned(),
            _ => with_port,
        }
    }
}

/// Default of [`Config::held_input_limit`]: 26 KiB for each of 10,000 connections, while a stanza has one or two.
pub const HELD_INPUT_LIMIT: usize = 256 * 1024 * 1024;

/// The least [`Config::held_input_limit`]: one frame of the largest size always gets through.
pub const MIN_HELD_INPUT_LIMIT: usize = 2 * MAX_FRAME;

/// Fixed for the life of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where sessions connect to.
    pub endpoint: Endpoint,
    /// Certificates to trust beside the web's roots, PEM.
    pub tls_ca_pem: Option<Vec<u8>>,
    /// Bounds everything from `open` to the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// Shared with all clients.
    pub client: Arc<runner_client::Config>,
    /// Most events that wait for Python, state events apart.
    pub outbox_capacity: usize,
    /// Most bytes of unfinished input (cut frames and TLS records) that all connections together hold; above it the one
    /// that holds the most is closed. A healthy connection holds a few KiB for milliseconds.
    pub held_input_limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_defaults_and_a_host_header() {
        let real = Endpoint::parse("wss://web.whatsapp.com/ws/chat").expect("valid");
        assert_eq!((real.secure, real.port, &*real.path), (true, 443, "/ws/chat"));
        assert_eq!(real.host_header(), "web.whatsapp.com");
        assert!(real.is_whatsapp());
        let local = Endpoint::parse("ws://[::1]:8080").expect("valid");
        assert_eq!((local.secure, local.port, &*local.path), (false, 8080, "/"));
        assert_eq!(local.host_header(), "[::1]:8080");
        assert!(!local.is_whatsapp());
        assert_eq!(Endpoint::parse("wss://h:4430/").expect("valid").host_header(), "h:4430");
    }

    #[test]
    fn plain_websockets_are_for_loopback_only() {
        for url in ["ws://localhost:1/", "ws://127.9.9.9/", "ws://[::1]/", "ws://LOCALHOST/"] {
            assert!(Endpoint::parse(url).is_ok(), "{url}");
        }
        for url in ["ws://web.whatsapp.com/", "ws://10.0.0.1/", "ws://localhost.evil.example/", "ws://[::2]/"]
        {
            assert_eq!(Endpoint::parse(url), Err(EndpointError::PlainToElsewhere), "{url}");
        }
    }

    #[test]
    fn urls_that_are_none_are_refused() {
        for (url, error) in [
            ("https://h/", EndpointError::Scheme),
            ("wss://", EndpointError::Host),
            ("wss://a@b/", EndpointError::Host),
            ("wss://h:99999/", EndpointError::Host),
            ("wss://h/a b", EndpointError::Path),
            ("wss://h/a\r\nX: y", EndpointError::Path),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn whatsapp_is_known_by_its_domains_and_not_by_lookalikes() {
        let is_whatsapp =
            |host: &str| Endpoint::parse(&format!("wss://{host}/")).expect("valid").is_whatsapp();
        assert!(
            is_whatsapp("WEB.WhatsApp.com") && is_whatsapp("whatsapp.com.") && is_whatsapp("g.whatsapp.net")
        );
        assert!(!is_whatsapp("notwhatsapp.com") && !is_whatsapp("whatsapp.com.example"));
    }
}
