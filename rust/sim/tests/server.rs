//! The simulator on real sockets: what the core cannot show.

#![allow(clippy::disallowed_methods, reason = "a driver: the bans of clippy.toml are for the core")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_sim::{CallError, Options, Simulator};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

/// A directory of this test alone, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("runner-sim-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn address(simulator: &Simulator) -> SocketAddr {
    let port = simulator.info()["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn get(stream: &mut (impl Read + Write), path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

#[test]
fn one_port_serves_plain_and_tls_and_resumes_sessions() {
    let scratch = Scratch::new("tls");
    let simulator = Simulator::start(Options { tls: true, ..Options::new(&scratch.0) }).expect("started");
    assert!(simulator.url().starts_with("wss://127.0.0.1:"));
    let plain = get(&mut dial(address(&simulator)).expect("dialled"), "/sw.js");
    assert!(
        plain.starts_with("HTTP/1.1 200") && plain.contains(r#""client_revision":1035194821"#),
        "{plain}"
    );

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(simulator.ca_file()).expect("the CA")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let kinds = ["127.0.0.1", "127.0.0.1", "localhost"].map(|name| {
        let name = ServerName::try_from(name).expect("a name");
        let connection = ClientConnection::new(Arc::clone(&config), name).expect("a connection");
        let mut stream = StreamOwned::new(connection, dial(address(&simulator)).expect("dialled"));
        assert!(get(&mut stream, "/sw.js").contains("client_revision"));
        stream.conn.handshake_kind()
    });
    assert!(matches!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed), Some(_)]), "{kinds:?}");
    let stats = simulator.call("GET", "/stats", &Value::Null).expect("stats");
    assert_eq!((&stats["tlsHandshakes"], &stats["tlsResumed"]), (&json!(3), &json!(1)));
}

#[test]
fn unlisten_refuses_dials_and_the_same_port_comes_back() {
    let scratch = Scratch::new("unlisten");
    let simulator = Simulator::start(Options::new(&scratch.0)).expect("started");
    let address = address(&simulator);
    dial(address).expect("listening");
    simulator.call("POST", "/refuse", &json!({ "seconds": 0.3 })).expect("refuse");
    assert_eq!(
        dial(address).map(drop).map_err(|error| error.kind()),
        Err(std::io::ErrorKind::ConnectionRefused)
    );
    let began = Instant::now();
    while dial(address).is_err() {
        assert!(began.elapsed() < LIMIT, "the port did not come back");
        std::thread::yield_now();
    }
}

#[test]
fn the_control_port_speaks_http_and_turns_browsers_away() {
    let scratch = Scratch::new("control");
    let simulator = Simulator::start(Options { sessions: 2, ..Options::new(&scratch.0) }).expect("started");
    let control: SocketAddr = simulator.control().trim_start_matches("http://").parse().expect("an address");
    let ask = |request: &str| {
        let mut stream = dial(control).expect("dialled");
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let devices = ask("GET /devices HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(devices.starts_with("HTTP/1.1 200") && devices.contains("15550000001"), "{devices}");
    assert!(ask("GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 404"));
    let bad = ask("POST /config HTTP/1.1\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{\"no\": 1}");
    assert!(bad.starts_with("HTTP/1.1 400") && bad.contains("no setting"), "{bad}");
    // A push is answered when it is done, which is later: the connection stays until then.
    let push = r#"{"all": true, "template": "ping", "offline": true, "n": 3, "rate": 50}"#;
    let later = ask(&format!(
        "POST /push HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{push}",
        push.len()
    ));
    assert!(later.starts_with("HTTP/1.1 200") && later.contains(r#""queued":6"#), "{later}");
    assert!(ask("GET /info HTTP/1.1\r\nOrigin: http://evil.example\r\n\r\n").starts_with("HTTP/1.1 403"));
}

#[test]
fn a_second_start_keeps_the_authority_and_the_credentials() {
    let scratch = Scratch::new("again");
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("a file");
    let start = || {
        let simulator =
            Simulator::start(Options { sessions: 1, ..Options::new(&scratch.0) }).expect("started");
        let own = simulator.credentials().join("sim-00001").join("creds.json");
        (simulator.root_key_hex().to_owned(), read(simulator.ca_file().to_owned()), own)
    };
    let (root, ca, own) = start();
    std::fs::write(&own, "changed by its client").expect("written");
    assert_eq!(start(), (root, ca, own.clone()));
    assert_eq!(read(own), "changed by its client");
}

#[test]
fn quitting_ends_the_thread_and_later_calls_say_so() {
    let scratch = Scratch::new("quit");
    let simulator = Simulator::start(Options::new(&scratch.0)).expect("started");
    let address = address(&simulator);
    simulator.call("POST", "/quit", &Value::Null).expect("quit");
    let began = Instant::now();
    while simulator.is_running() {
        assert!(began.elapsed() < LIMIT, "the thread did not end");
        std::thread::yield_now();
    }
    assert_eq!(simulator.call("GET", "/info", &Value::Null), Err(CallError::Stopped));
    assert!(dial(address).is_err());
}
