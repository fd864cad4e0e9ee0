//! One session's TLS over buffers that all sessions of the thread share.

use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use std::sync::Arc;

pub struct Tls {
    conn: UnbufferedClientConnection,
    /// An incomplete TLS record; empty, and then unallocated, between records.
    partial: Vec<u8>,
    pub online: bool,
}

/// Bytes that a thread's sessions share.
pub struct Buffers {
    pub read: Vec<u8>,
    pub write: Vec<u8>,
}

impl Buffers {
    pub fn new() -> Self {
        Self { read: vec![0; 64 * 1024], write: Vec::with_capacity(64 * 1024) }
    }
}

impl Tls {
    pub fn new(config: &Arc<rustls::ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let conn = UnbufferedClientConnection::new(Arc::clone(config), name).expect("a client");
        Self { conn, partial: Vec::new(), online: false }
    }

    /// Reads once through `read` into the shared buffer and answers every record; returns records seen, `None` at the end.
    pub fn pump(&mut self, buffers: &mut Buffers, read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) -> std::io::Result<Option<u64>> {
        let held = self.partial.len();
        buffers.read[..held].copy_from_slice(&self.partial);
        let n = read(&mut buffers.read[held..])?;
        if n == 0 {
            return Ok(None);
        }
        let records = self.process(held + n, buffers);
        Ok(Some(records))
    }

    /// Starts the handshake: writes the client hello.
    pub fn start(&mut self, buffers: &mut Buffers) {
        self.process(0, buffers);
    }

    fn process(&mut self, filled: usize, buffers: &mut Buffers) -> u64 {
        let (mut at, mut records) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state } = self.conn.process_tls_records(&mut buffers.read[at..filled]);
            let mut done = false;
            match state.expect("clean tls") {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.expect("a record");
                        discard += record.discard;
                        records += 1;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    grow(&mut buffers.write, |room| match data.encode(room) {
                        Ok(n) => Ok(n),
                        Err(EncodeError::InsufficientSize(e)) => Err(e.required_size),
                        Err(e) => panic!("{e}"),
                    });
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    self.online = true;
                    for _ in 0..records {
                        grow(&mut buffers.write, |room| match traffic.encrypt(&[7; 30], room) {
                            Ok(n) => Ok(n),
                            Err(EncryptError::InsufficientSize(e)) => Err(e.required_size),
                            Err(e) => panic!("{e}"),
                        });
                    }
                    done = true;
                }
                _ => done = true,
            }
            at += discard;
            if done {
                break;
            }
        }
        self.partial = buffers.read[at..filled].to_vec();
        records
    }
}

/// Appends what `fill` writes, growing `out` to what it asks for.
fn grow(out: &mut Vec<u8>, mut fill: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let start = out.len();
    let mut room = 256;
    loop {
        out.resize(start + room, 0);
        match fill(&mut out[start..]) {
            Ok(n) => return out.truncate(start + n),
            Err(required) => room = required,
        }
    }
}

/// The peer is our own server on loopback with a throw-away certificate; the spike measures, it trusts nobody.
#[derive(Debug)]
struct AnyCertificate(rustls::crypto::WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: &ServerName<'_>, _: &[u8], _: UnixTime) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &rustls::DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0)
    }
    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &rustls::DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

pub fn client_config() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    Arc::new(config)
}
