//! The test authority: a CA and one leaf for loopback, kept in the simulator's directory over restarts.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::StartError;

/// The names and addresses under which the simulator can be dialled.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate authority of a directory, and the TLS configuration that its leaf gives.
pub(super) struct Authority {
    pub(super) ca_file: PathBuf,
    pub(super) config: Arc<ServerConfig>,
}

impl Authority {
    /// Reads `ca.pem`, `server.pem` and `server-key.pem`, or makes all three.
    pub(super) fn open(directory: &Path) -> Result<Self, StartError> {
        let files =
            [directory.join("ca.pem"), directory.join("server.pem"), directory.join("server-key.pem")];
        if !files.iter().all(|file| file.exists()) {
            create(&files)?;
        }
        let [ca_file, certificate, key] = files;
        let chain = CertificateDer::pem_file_iter(&certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| damaged(&certificate, &error))?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| damaged(&key, &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(StartError::Tls)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(StartError::Tls)?;
        // Stateless tickets: a resumption costs the server no memory, however many clients there are.
        config.ticketer = ring::Ticketer::new().map_err(StartError::Tls)?;
        Ok(Self { ca_file, config: Arc::new(config) })
    }
}

fn create([ca_file, certificate, key]: &[PathBuf; 3]) -> Result<(), StartError> {
    let validity = |params: &mut CertificateParams, name: &str| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2060, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
    };
    let ca_key = KeyPair::generate().map_err(StartError::Certificate)?;
    let mut ca = CertificateParams::new(Vec::new()).map_err(StartError::Certificate)?;
    validity(&mut ca, "runner simulator test CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key).map_err(StartError::Certificate)?;

    let leaf_key = KeyPair::generate().map_err(StartError::Certificate)?;
    let mut leaf = CertificateParams::new(NAMES.map(str::to_owned)).map_err(StartError::Certificate)?;
    validity(&mut leaf, "runner simulator");
    leaf.use_authority_key_identifier_extension = true;
    let issuer = Issuer::new(ca, ca_key);
    let leaf_certificate = leaf.signed_by(&leaf_key, &issuer).map_err(StartError::Certificate)?;

    write(certificate, &leaf_certificate.pem(), 0o644)?;
    write(key, &leaf_key.serialize_pem(), 0o600)?;
    write(ca_file, &ca_certificate.pem(), 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), StartError> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::Damaged { path: path.to_owned(), detail: error.to_string() }
}
