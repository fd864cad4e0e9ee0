//! Why a connection ended: one enum, made from one table.
//!
//! A reason is a fact; what to do about it is decided elsewhere (the reconnect policy has one row for each slug).
//! Numbers that the table does not know arrive as the `*Unknown` reason of their source; the number stays in
//! [`Closed::code`] and the raw stanza in [`Closed::detail`].
//!
//! Sources: docs/protocol.md, "Ends".

use std::fmt::{self, Write as _};

use crate::phase::Phase;

/// Who or what said that the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `<failure>` in place of `<success>`.
    Failure,
    /// `<stream:error>`.
    StreamError,
    /// `<xmlstreamend/>`.
    StreamEnd,
    /// An `<ib>` stanza.
    Ib,
    /// The WebSocket: its upgrade, a close frame, a broken frame.
    Websocket,
    /// What happens before the transport is up.
    Dial,
    /// TCP or TLS below the WebSocket.
    Transport,
    /// Our own deadline or check.
    Local,
    /// Somebody on our side asked for it.
    Request,
}

impl Source {
    /// The word for it in JSON, logs, metrics and docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::StreamError => "stream_error",
            Self::StreamEnd => "stream_end",
            Self::Ib => "ib",
            Self::Websocket => "websocket",
            Self::Dial => "dial",
            Self::Transport => "transport",
            Self::Local => "local",
            Self::Request => "request",
        }
    }
}

macro_rules! close_reasons {
    ($($name:ident $slug:literal $source:ident $code:tt $summary:literal,)*) => {
        /// The one typed cause a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason {
            $(#[doc = $summary] $name,)*
        }

        impl CloseReason {
            /// Every reason, in a stable order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word for it in JSON, logs, metrics and policy tables.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Who or what ended it.
            #[must_use]
            pub const fn source(self) -> Source {
                match self { $(Self::$name => Source::$source,)* }
            }

            /// The number that the peer uses for it, where there is exactly one.
            #[must_use]
            pub const fn code(self) -> Option<u32> {
                match self { $(Self::$name => close_reasons!(@code $code),)* }
            }

            /// One sentence for an operator.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }
        }
    };
    (@code -) => { None };
    (@code $code:literal) => { Some($code) };
}

close_reasons! {
    FailureGeneric "failure_generic" Failure 400 "the server refused the login as a bad request",
    FailureLoggedOut "failure_logged_out" Failure 401 "the device was unlinked from the account",
    FailureTemporaryBan "failure_temporary_ban" Failure 402 "the account is banned for a while; the expiry says how long",
    FailureLocked "failure_locked" Failure 403 "the account is locked, or its phone is gone",
    FailureClientOutdated "failure_client_outdated" Failure 405 "the client version is too old",
    FailureBanned "failure_banned" Failure 406 "the account is banned",
    FailureBadUserAgent "failure_bad_user_agent" Failure 409 "the server does not accept our user agent: a bug of ours",
    FailureCatExpired "failure_cat_expired" Failure 413 "the access token expired (Messenger accounts)",
    FailureCatInvalid "failure_cat_invalid" Failure 414 "the access token is invalid (Messenger accounts)",
    FailureNotFound "failure_not_found" Failure 415 "the server does not know the account",
    FailureClientUnknown "failure_client_unknown" Failure 418 "the server does not know this client",
    FailureRateLimited "failure_rate_limited" Failure 429 "too many logins",
    FailureInternalError "failure_internal_error" Failure 500 "internal server error at login",
    FailureExperimental "failure_experimental" Failure 501 "the server calls it experimental and refuses",
    FailureServiceUnavailable "failure_service_unavailable" Failure 503 "service unavailable at login",
    FailureUnknown "failure_unknown" Failure - "the server refused the login with a number that we do not know",

    StreamUnauthorized "stream_unauthorized" StreamError 401 "the server ended the stream as unauthorized",
    StreamDeviceRemoved "stream_device_removed" StreamError 401 "the phone unlinked this device",
    StreamForbidden "stream_forbidden" StreamError 403 "the server ended the stream as forbidden",
    StreamConflict "stream_conflict" StreamError 409 "the server ended the stream for a conflict",
    StreamConflictOther "stream_conflict_other" StreamError - "the server ended the stream for a conflict of a kind that we do not know",
    StreamCatExpired "stream_cat_expired" StreamError 413 "the access token expired (Messenger accounts)",
    StreamCatInvalid "stream_cat_invalid" StreamError 414 "the access token is invalid (Messenger accounts)",
    StreamRateLimited "stream_rate_limited" StreamError 429 "the server limits our rate",
    StreamReplaced "stream_replaced" StreamError - "another connection of this device took over",
    StreamReplacedCode "stream_replaced_code" StreamError 440 "another connection of this device took over (said as a number)",
    StreamInternalError "stream_internal_error" StreamError 500 "internal server error",
    StreamServiceUnavailable "stream_service_unavailable" StreamError 503 "the server restarts",
    StreamRestartRequired "stream_restart_required" StreamError 515 "the server asks for a new connection, as it does after pairing",
    StreamLoggedOut "stream_logged_out" StreamError 516 "the server logged this device out",
    StreamUnansweredStanza "stream_unanswered_stanza" StreamError - "the server is still owed the answer to a stanza",
    StreamBadXml "stream_bad_xml" StreamError - "the server could not read a stanza of ours: a bug of ours",
    StreamUnknown "stream_unknown" StreamError - "the server ended the stream in a way that we do not know",

    StreamEnded "stream_ended" StreamEnd - "the server ended the stream without a reason",
    MultideviceMismatch "multidevice_mismatch" Ib 411 "the account left multi-device; this device cannot stay",

    UpgradeRefused "upgrade_refused" Websocket - "the endpoint answered the WebSocket upgrade with an HTTP status",
    UpgradeInvalid "upgrade_invalid" Websocket - "the endpoint's answer to the WebSocket upgrade is not valid",
    WebsocketClosed "websocket_closed" Websocket - "the server sent a WebSocket close frame",
    WebsocketInvalid "websocket_invalid" Websocket - "the server broke the WebSocket protocol",

    ResolveFailed "resolve_failed" Dial - "the host name did not resolve",
    TcpRefused "tcp_refused" Dial - "the endpoint refused the TCP connection",
    TcpUnreachable "tcp_unreachable" Dial - "no route to the endpoint",
    TcpTimeout "tcp_timeout" Dial - "the endpoint did not answer the TCP connection",
    ProxyFailed "proxy_failed" Dial - "the proxy is not reachable or does not speak its protocol",
    ProxyRefused "proxy_refused" Dial - "the proxy refused to connect to the endpoint",
    ProxyAuthFailed "proxy_auth_failed" Dial - "the proxy refused our credentials",
    TlsFailed "tls_failed" Dial - "the TLS handshake failed",
    TlsCertificateInvalid "tls_certificate_invalid" Dial - "the endpoint's TLS certificate is not valid",
    TlsTimeout "tls_timeout" Dial - "the TLS handshake took too long",
    DialTimeout "dial_timeout" Dial - "dialling took too long",
    FdExhausted "fd_exhausted" Dial - "this process has no file descriptor left",
    DeviceMissing "device_missing" Dial - "the store has no credentials for this session",
    DeviceQuarantined "device_quarantined" Dial - "the credentials of this session cannot be used and were set aside",

    ConnectionClosed "connection_closed" Transport - "the server closed the connection without a word",
    ConnectionReset "connection_reset" Transport - "the connection was reset",
    ConnectionTimedOut "connection_timed_out" Transport - "TCP gave up: what we sent was never acknowledged",

    UpgradeTimeout "upgrade_timeout" Local - "the WebSocket upgrade took too long",
    HandshakeTimeout "handshake_timeout" Local - "the Noise handshake took too long",
    LoginTimeout "login_timeout" Local - "the server neither accepted nor refused the login in time",
    PairingExpired "pairing_expired" Local - "nobody linked the new device with a phone in time",
    PairingInvalid "pairing_invalid" Local - "what came as the phone's consent was not made by the phone that scanned or entered the code",
    HandshakeFailed "handshake_failed" Local - "the Noise handshake failed: the peer is not who it should be, or broken",
    CertificateInvalid "certificate_invalid" Local - "the server's Noise certificate chain is not valid",
    CertificateExpired "certificate_expired" Local - "the server's Noise certificate is outside its validity, or our clock is wrong",
    ResumeFailed "resume_failed" Local - "the resumed handshake (IK) failed; the next attempt uses the full one",
    PongDeadline "pong_deadline" Local - "the server did not answer a ping in time: the socket is dead",
    FrameInvalid "frame_invalid" Local - "the server sent a frame that is too long or cut off",
    InputUnfinished "input_unfinished" Local - "the server began more than it finished, and this connection held the most of it",
    DecryptFailed "decrypt_failed" Local - "a frame did not decrypt: the two sides are out of step",
    NonceExhausted "nonce_exhausted" Local - "the cipher's counter ran out; a new connection has a new one",
    OutputStalled "output_stalled" Local - "the server stopped reading",
    StoreStalled "store_stalled" Local - "our own store did not commit in time; the server is not to blame",
    SessionPanicked "session_panicked" Local - "a bug of ours ended this connection",

    Stopped "stopped" Request - "an operator stopped the session",
    Forced "forced" Request - "an operator forced a new connection",
    Rebuilt "rebuilt" Request - "a probe failed and the health check asked for a new connection",
    Shutdown "shutdown" Request - "the runner is shutting down",
    LoggedOutByRequest "logged_out_by_request" Request - "an operator unlinked this device",
    LogoutUnconfirmed "logout_unconfirmed" Request - "an operator wanted this device unlinked, and the server did not confirm it",
}

impl CloseReason {
    /// The reason with this slug.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.slug() == slug)
    }

    /// The reason for `<failure reason=code>`.
    #[must_use]
    pub fn from_failure(code: Option<u32>) -> Self {
        Self::with_code(Source::Failure, code).unwrap_or(Self::FailureUnknown)
    }

    /// The reason for a `<stream:error>`: a conflict first (its type says more than the number beside it), then a
    /// number that we know, then the other children.
    #[must_use]
    pub fn from_stream_error(error: &StreamError<'_>) -> Self {
        match error.conflict {
            Some("replaced") => return Self::StreamReplaced,
            Some("device_removed") => return Self::StreamDeviceRemoved,
            Some(_) => return Self::StreamConflictOther,
            None => {}
        }
        if let Some(reason) = Self::with_code(Source::StreamError, error.code) {
            return reason;
        }
        if error.has_ack {
            Self::StreamUnansweredStanza
        } else if error.has_bad_xml {
            Self::StreamBadXml
        } else {
            Self::StreamUnknown
        }
    }

    /// The first row of the table with this source and number.
    fn with_code(source: Source, code: Option<u32>) -> Option<Self> {
        let code = code?;
        Self::ALL.iter().copied().find(|reason| reason.source() == source && reason.code() == Some(code))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// What a `<stream:error>` says, as far as the reason depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamError<'a> {
    /// The attribute `code`, when it is a number.
    pub code: Option<u32>,
    /// The type of the child `<conflict>`; empty when it has none.
    pub conflict: Option<&'a str>,
    /// There is a child `<ack>`.
    pub has_ack: bool,
    /// There is a child `<xml-not-well-formed>`.
    pub has_bad_xml: bool,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The typed cause.
    pub reason: CloseReason,
    /// The number that came with it: the failure's, the stream error's, the HTTP status, the WebSocket close code.
    pub code: Option<u32>,
    /// Where the connection was when it ended.
    pub phase: Phase,
    /// What else there is to know, above all the raw stanza; at most [`MAX_DETAIL_BYTES`] of printable ASCII.
    pub detail: String,
    /// A temporary ban's time to run, in seconds.
    pub expire_s: Option<u64>,
}

impl Closed {
    /// An end without a detail; the code is the reason's own.
    #[must_use]
    pub const fn new(reason: CloseReason, phase: Phase) -> Self {
        Self { reason, code: reason.code(), phase, detail: String::new(), expire_s: None }
    }

    /// With `detail`, escaped and cut to its bound.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = bounded(detail);
        self
    }

    /// The same end under another reason; the first one is kept in the detail.
    #[must_use]
    pub fn renamed(self, reason: CloseReason) -> Self {
        let detail = bounded(format_args!("{}: {}", self.reason, self.detail));
        Self { reason, detail, ..self }
    }

    /// With the number that the peer gave, if it gave one.
    #[must_use]
    pub const fn with_code(mut self, code: Option<u32>) -> Self {
        if code.is_some() {
            self.code = code;
        }
        self
    }
}

/// The longest [`Closed::detail`], in bytes; ours: enough for every stanza of the tables, and a bound on logs.
pub const MAX_DETAIL_BYTES: usize = 512;

/// The text of `value`: printable ASCII as it is, everything else escaped, cut with `...` at
/// [`MAX_DETAIL_BYTES`]. Formatting stops at the bound, so a huge stanza costs no more than a small one.
#[must_use]
pub fn bounded(value: impl fmt::Display) -> String {
    let mut text = Bounded(String::new());
    // An error here only says that the bound was reached.
    let _ = write!(text, "{value}");
    text.0
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        const CUT: &str = "...";
        for ch in part.chars() {
            let before = self.0.len();
            match ch {
                ' '..='~' => self.0.push(ch),
                _ => self.0.extend(ch.escape_default()),
            }
            if self.0.len() > MAX_DETAIL_BYTES - CUT.len() {
                self.0.truncate(before);
                self.0.push_str(CUT);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slugs_are_unique_snake_case_and_lead_back() {
        let mut seen = HashSet::new();
        for reason in CloseReason::ALL {
            let slug = reason.slug();
            assert!(seen.insert(slug), "{slug} twice");
            assert!(slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{slug}");
            assert_eq!(CloseReason::from_slug(slug), Some(*reason));
            assert!(!reason.summary().is_empty() && !reason.summary().ends_with('.'), "{slug}");
        }
        assert_eq!(CloseReason::from_slug("no_such_reason"), None);
    }

    #[test]
    fn every_documented_failure_number_has_its_own_reason() {
        let documented = [
            (400, "failure_generic"),
            (401, "failure_logged_out"),
            (402, "failure_temporary_ban"),
            (403, "failure_locked"),
            (405, "failure_client_outdated"),
            (406, "failure_banned"),
            (409, "failure_bad_user_agent"),
            (413, "failure_cat_expired"),
            (414, "failure_cat_invalid"),
            (415, "failure_not_found"),
            (418, "failure_client_unknown"),
            (429, "failure_rate_limited"),
            (500, "failure_internal_error"),
            (501, "failure_experimental"),
            (503, "failure_service_unavailable"),
        ];
        for (code, slug) in documented {
            assert_eq!(CloseReason::from_failure(Some(code)).slug(), slug);
        }
        for unknown in [None, Some(0), Some(404), Some(411), Some(440), Some(515)] {
            assert_eq!(CloseReason::from_failure(unknown), CloseReason::FailureUnknown);
        }
    }

    #[test]
    fn every_documented_stream_error_has_its_own_reason() {
        let numbers = [
            (401, "stream_unauthorized"),
            (403, "stream_forbidden"),
            (409, "stream_conflict"),
            (413, "stream_cat_expired"),
            (414, "stream_cat_invalid"),
            (429, "stream_rate_limited"),
            (440, "stream_replaced_code"),
            (500, "stream_internal_error"),
            (503, "stream_service_unavailable"),
            (515, "stream_restart_required"),
            (516, "stream_logged_out"),
            (999, "stream_unknown"),
        ];
        for (code, slug) in numbers {
            let error = StreamError { code: Some(code), ..StreamError::default() };
            assert_eq!(CloseReason::from_stream_error(&error).slug(), slug);
        }
        let shape = |code, conflict, has_ack, has_bad_xml| {
            CloseReason::from_stream_error(&StreamError { code, conflict, has_ack, has_bad_xml }).slug()
        };
        assert_eq!(shape(None, Some("replaced"), false, false), "stream_replaced");
        assert_eq!(shape(Some(401), Some("device_removed"), false, false), "stream_device_removed");
        assert_eq!(shape(Some(401), Some("what"), false, false), "stream_conflict_other");
        assert_eq!(shape(None, Some(""), false, false), "stream_conflict_other");
        assert_eq!(shape(None, None, true, false), "stream_unanswered_stanza");
        assert_eq!(shape(None, None, false, true), "stream_bad_xml");
        assert_eq!(shape(Some(777), None, true, false), "stream_unanswered_stanza");
        assert_eq!(shape(None, None, false, false), "stream_unknown");
    }

    #[test]
    fn a_detail_is_escaped_and_bounded() {
        assert_eq!(bounded("a\nb\u{7f}é"), "a\\nb\\u{7f}\\u{e9}");
        let long = bounded("é".repeat(10_000));
        assert!(long.len() <= MAX_DETAIL_BYTES && long.ends_with("\\u{e9}..."), "{long}");
        let full = "x".repeat(MAX_DETAIL_BYTES - 3);
        assert_eq!(bounded(&full), full);
        assert_eq!(bounded("x".repeat(MAX_DETAIL_BYTES - 2)), format!("{full}..."));
    }

    #[test]
    fn a_peers_number_wins_over_the_tables() {
        let closed = Closed::new(CloseReason::StreamUnknown, Phase::Online).with_code(Some(777));
        assert_eq!(closed.code, Some(777));
        assert_eq!(
            Closed::new(CloseReason::FailureLocked, Phase::Authenticating).with_code(None).code,
            Some(403)
        );
    }
}
