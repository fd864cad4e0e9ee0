//! TLS for all sessions: one configuration, one pool of tickets, and rustls without buffers of its own.
//!
//! A connection keeps rustls' state and, only while a record is incomplete, its first bytes. Everything else passes
//! through buffers that the thread's sessions share.

use crate::config::{Config, Endpoint};
use rustls::client::{
    ClientConnectionData, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Tickets kept for all sessions together. A login takes one and brings one or more, so a storm of dials finds
/// enough of them when at least this many connections were up before. About 1 KiB each.
const MAX_TICKETS: usize = 256;

/// Makes the connections of one endpoint.
#[derive(Debug)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why there is no TLS configuration: the operator's fault.
#[derive(Debug, Error)]
pub enum TlsConfigError {
    /// The extra CA file holds no certificate, or one that does not parse.
    #[error("the extra CA is not a PEM file of certificates")]
    Ca,
    /// The host cannot be in a certificate.
    #[error("the host cannot be verified by TLS")]
    Host,
    /// rustls refused.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Connector {
    pub(crate) fn new(config: &Config) -> Result<Self, TlsConfigError> {
        let Endpoint { host, .. } = &config.endpoint;
        let name = ServerName::try_from(host.to_string()).map_err(|_| TlsConfigError::Host)?;
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = &config.tls_ca_pem {
            let mut found = false;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|_| TlsConfigError::Ca)?).map_err(|_| TlsConfigError::Ca)?;
                found = true;
            }
            if !found {
                return Err(TlsConfigError::Ca);
            }
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = Resumption::store(Arc::new(Tickets::default()));
        Ok(Self { config: Arc::new(tls), name })
    }

    pub(crate) fn connect(&self) -> Result<Tls, rustls::Error> {
        let conn = UnbufferedClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        Ok(Tls { conn, partial: Box::default(), is_open: false, is_broken: false })
    }
}

/// One session's TLS.
pub(crate) struct Tls {
    conn: UnbufferedClientConnection,
    /// The beginning of a record whose rest has not come; empty, and then unallocated, between records.
    partial: Box<[u8]>,
    is_open: bool,
    /// The peer broke TLS; nothing more goes through.
    is_broken: bool,
}

/// What [`Tls::handle_input`] found beside application data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsProgress {
    /// More of the peer's bytes are needed for a handshake.
    Handshaking,
    /// Application data may be sent.
    Open,
    /// The peer said that it is done.
    PeerClosed,
}

impl Tls {
    /// The incomplete record that belongs in front of what is read next.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Takes `records`, which begins with [`partial`](Self::partial); appends application data to `plain` and what
    /// TLS itself has to send to `out`. Call with nothing to start the handshake.
    pub(crate) fn handle_input(
        &mut self,
        records: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<TlsProgress, rustls::Error> {
        let mut at = 0;
        let progress = loop {
            let UnbufferedStatus { mut discard, state } =
                self.conn.process_tls_records(records.get_mut(at..).unwrap_or_default());
            let progress = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, out)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    None
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.is_open = true;
                    Some(TlsProgress::Open)
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(TlsProgress::PeerClosed),
                Ok(_) => Some(TlsProgress::Handshaking),
                Err(error) => {
                    // rustls must not be asked again after an error, not even for its alert: it would deframe the same
                    // record once more, which its debug assertions forbid. The peer sees the connection close.
                    self.is_broken = true;
                    return Err(error);
                }
            };
            at += discard;
            if let Some(progress) = progress {
                break progress;
            }
        };
        self.partial = records.get(at..).unwrap_or_default().into();
        Ok(progress)
    }

    /// Whether the handshake is over.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Appends `plain` to `out` as records.
    pub(crate) fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        // Whole records at most; the overhead of one is 5 + 16 + 1 bytes in TLS 1.3 and up to 29 in 1.2.
        let room = plain.len() + (plain.len() / 16_384 + 1) * 32;
        self.with_write_traffic(out, |traffic, out| {
            append(out, room, |room| match traffic.encrypt(plain, room) {
                Ok(written) => Ok(written),
                Err(EncryptError::InsufficientSize(needed)) => Err(Some(needed.required_size)),
                Err(EncryptError::EncryptExhausted) => Err(None),
            })
        })
    }

    /// Appends the farewell of TLS to `out`; best effort.
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) {
        // A failure only means that the peer sees the end of the stream without the word.
        let _ = self.with_write_traffic(out, |traffic, out| {
            append(out, 64, |room| match traffic.queue_close_notify(room) {
                Ok(written) => Ok(written),
                Err(EncryptError::InsufficientSize(needed)) => Err(Some(needed.required_size)),
                Err(EncryptError::EncryptExhausted) => Err(None),
            })
        });
    }

    /// The ticket of an earlier connection was accepted.
    pub(crate) fn is_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn with_write_traffic(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, ClientConnectionData>, &mut Vec<u8>) -> Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        if self.is_broken {
            return Err(rustls::Error::HandshakeNotComplete);
        }
        // rustls remembers where in the held bytes a split handshake message lies, so it must see them each time.
        let mut held = std::mem::take(&mut self.partial);
        let mut at = 0;
        let outcome = loop {
            let UnbufferedStatus { discard, state } =
                self.conn.process_tls_records(held.get_mut(at..).unwrap_or_default());
            at += discard;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => break write(&mut traffic, out),
                // A key update of TLS' own goes first.
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if let Err(error) = encode(&mut data, out) {
                        break Err(error);
                    }
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) => break Err(rustls::Error::HandshakeNotComplete),
                Err(error) => break Err(error),
            }
        };
        self.partial = if at == 0 { held } else { held.get(at..).unwrap_or_default().into() };
        outcome
    }
}

/// Appends a record of TLS' own.
fn encode(
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    append(out, 512, |room| match data.encode(room) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(needed)) => Err(Some(needed.required_size)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    })
}

/// Appends what `fill` writes, with `room` bytes at first and with as many as it asks for then.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), rustls::Error> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match fill(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(start);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}

/// The tickets of the one host that an engine talks to. rustls' own store would keep eight.
#[derive(Debug, Default)]
struct Tickets(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// Newest last; each is used once (RFC 8446 §C.4).
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut pool = self.lock();
        if pool.tls13.len() >= MAX_TICKETS {
            pool.tls13.pop_front();
        }
        pool.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().tls13.pop_back()
    }
}
