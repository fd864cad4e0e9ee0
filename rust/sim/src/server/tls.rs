//! TLS of one connection, on rustls' unbuffered interface: between reads it keeps only an incomplete record.

use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{Error, ServerConfig};

/// More than the framing of one record adds (header, content type, tag, explicit nonce).
const RECORD_OVERHEAD: usize = 64;

/// The server side of one TLS connection.
pub(super) struct Tls {
    connection: Box<UnbufferedServerConnection>,
    /// The start of a record whose end has not come yet.
    rest: Vec<u8>,
}

/// What a read found besides data.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Progress {
    /// The peer said that it will send no more.
    pub(super) closed: bool,
    /// The handshake ended in this read, and how.
    pub(super) finished: Option<HandshakeKind>,
}

impl Tls {
    pub(super) fn new(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = Box::new(UnbufferedServerConnection::new(Arc::clone(config))?);
        Ok(Self { connection, rest: Vec::new() })
    }

    /// Takes bytes off the wire; appends what they say to `plain`, and what TLS itself answers to `wire`.
    pub(super) fn read(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let handshaking = self.connection.is_handshaking();
        let mut joined = std::mem::take(&mut self.rest);
        let buffer = if joined.is_empty() {
            input
        } else {
            joined.extend_from_slice(input);
            &mut joined[..]
        };
        let mut used = 0;
        let mut progress = Progress::default();
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(buffer.get_mut(used..).unwrap_or_default());
            let done = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut encoder) => {
                    let start = wire.len();
                    let written = match encoder.encode(&mut []) {
                        Ok(written) => written,
                        Err(EncodeError::InsufficientSize(size)) => {
                            wire.resize(start + size.required_size, 0);
                            encoder
                                .encode(&mut wire[start..])
                                .map_err(|error| Error::General(error.to_string()))?
                        }
                        Err(error) => return Err(Error::General(error.to_string())),
                    };
                    wire.truncate(start + written);
                    false
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    false
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    progress.closed = true;
                    true
                }
                _ => true,
            };
            used += discard;
            if done {
                break;
            }
        }
        let rest = buffer.get(used..).unwrap_or_default();
        if !rest.is_empty() {
            self.rest = rest.to_vec();
        }
        if handshaking && !self.connection.is_handshaking() {
            progress.finished = self.connection.handshake_kind();
        }
        Ok(progress)
    }

    /// Appends `plain` to `wire`, encrypted. Nothing is written before the handshake is over.
    pub(super) fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Error> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err(Error::HandshakeNotComplete);
        };
        let start = wire.len();
        let mut room = plain.len() + RECORD_OVERHEAD * (1 + plain.len() / 16_384);
        loop {
            wire.resize(start + room, 0);
            match traffic.encrypt(plain, &mut wire[start..]) {
                Ok(written) => {
                    wire.truncate(start + written);
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                    room = size.required_size
                }
                Err(error) => {
                    wire.truncate(start);
                    return Err(Error::General(error.to_string()));
                }
            }
        }
    }

    /// Appends the alert that ends the connection in order.
    pub(super) fn close(&mut self, wire: &mut Vec<u8>) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let start = wire.len();
            wire.resize(start + 2 * RECORD_OVERHEAD, 0);
            let written = traffic.queue_close_notify(&mut wire[start..]).unwrap_or(0);
            wire.truncate(start + written);
        }
    }
}
