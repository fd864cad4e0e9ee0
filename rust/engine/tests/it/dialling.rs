//! Everything that can go wrong before there is a transport, and proxies.

use crate::support::{Bench, World};
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::phase::Phase;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

fn closed_at(url: &str, proxy: Option<&str>) -> Closed {
    let bench = Bench::start(url, 1, |_| ());
    bench.open_through("s0", 1, proxy);
    bench.wait_closed("s0", 1)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("bound").port()
}

/// A server that accepts and says nothing; it tells when somebody spoke.
fn silent_server() -> (u16, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        // Kept open until the test's end of the channel is gone.
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept() {
            let mut said = vec![0; 4096];
            let count = socket.read(&mut said).unwrap_or(0);
            said.truncate(count);
            held.push(socket);
            if tell.send(said).is_err() {
                return;
            }
        }
    });
    (port, told)
}

#[test]
fn a_refused_port_is_tcp_refused() {
    let closed = closed_at(&format!("ws://127.0.0.1:{}/", free_port()), None);
    assert_eq!((closed.reason, closed.phase), (CloseReason::TcpRefused, Phase::Dialling));
}

#[test]
fn a_name_that_does_not_resolve_is_resolve_failed() {
    let closed = closed_at("wss://no-such-host.invalid/", None);
    assert_eq!((closed.reason, closed.phase), (CloseReason::ResolveFailed, Phase::Dialling));
}

#[test]
fn localhost_is_raced_over_both_families() {
    // The port listens on IPv4 only; the name may well give ::1 first.
    let world = World::plain(0);
    let port = world.sim.info()["port"].as_u64().expect("a port");
    let bench = Bench::start(&format!("ws://localhost:{port}/"), 1, |_| ());
    bench.open("s0", 1);
    assert_eq!(bench.wait_closed("s0", 1).phase, Phase::Handshaking, "the upgrade was answered");
}

#[test]
fn a_session_without_credentials_is_not_dialled() {
    let bench = Bench::start(&format!("ws://127.0.0.1:{}/", free_port()), 0, |_| ());
    bench.open("nobody", 1);
    assert_eq!(bench.wait_closed("nobody", 1).reason, CloseReason::DeviceMissing);
}

#[test]
fn a_server_that_never_answers_meets_the_deadline_of_each_stage() {
    for (scheme, proxy, reason, phase) in [
        ("ws", None, CloseReason::UpgradeTimeout, Phase::Upgrading),
        ("wss", None, CloseReason::TlsTimeout, Phase::Securing),
        ("ws", Some("http"), CloseReason::ProxyFailed, Phase::Dialling),
        ("wss", Some("socks5"), CloseReason::ProxyFailed, Phase::Dialling),
    ] {
        let (port, told) = silent_server();
        let bench = Bench::start(&format!("{scheme}://127.0.0.1:{port}/"), 1, |_| ());
        let proxy = proxy.map(|scheme| format!("{scheme}://127.0.0.1:{port}"));
        bench.open_through("s0", 1, proxy.as_deref());
        told.recv_timeout(Duration::from_secs(20)).expect("we speak first");
        bench.advance(Duration::from_secs(19));
        bench.collect(Duration::ZERO);
        bench.advance(Duration::from_secs(2));
        let closed = bench.wait_closed("s0", 1);
        assert_eq!((closed.reason, closed.phase), (reason, phase), "{scheme} {proxy:?}");
    }
}

#[test]
fn a_server_that_hangs_up_during_the_upgrade_is_connection_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let _ = socket.read(&mut request);
    });
    let closed = closed_at(&format!("ws://127.0.0.1:{port}/"), None);
    assert_eq!((closed.reason, closed.phase), (CloseReason::ConnectionClosed, Phase::Upgrading));
    server.join().expect("the server");
}

#[test]
fn garbage_instead_of_tls_is_tls_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut hello = [0; 4096];
        let _ = socket.read(&mut hello);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = socket.read(&mut hello);
    });
    let closed = closed_at(&format!("wss://127.0.0.1:{port}/"), None);
    assert_eq!((closed.reason, closed.phase), (CloseReason::TlsFailed, Phase::Securing));
    server.join().expect("the server");
}

#[test]
fn a_session_has_one_open_connection_at_a_time() {
    let (port, _told) = silent_server();
    let bench = Bench::start(&format!("ws://127.0.0.1:{port}/"), 1, |_| ());
    bench.open("s0", 1);
    let version = [2, 3000, 1];
    let again = runner_engine::OpenRequest {
        session_id: "s0",
        connection: 2,
        version,
        proxy: None,
        resume: false,
        pair: false,
    };
    assert_eq!(bench.engine.open(again.clone()), Err(runner_engine::Refused::AlreadyOpen));
    bench.engine.close("s0", 1, CloseReason::Forced).expect("running");
    assert_eq!(bench.wait_closed("s0", 1).reason, CloseReason::Forced);
    assert_eq!(bench.engine.open(again), Ok(()));
}

/// A proxy for one connection: reads `head` bytes at a time as `script` says, then carries bytes both ways.
fn proxy(script: impl FnOnce(&mut TcpStream) -> Option<u16> + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let Some(port) = script(&mut client) else { return };
        let mut server = TcpStream::connect(("127.0.0.1", port)).expect("the endpoint");
        let (mut client_too, mut server_too) =
            (client.try_clone().expect("fd"), server.try_clone().expect("fd"));
        let back = std::thread::spawn(move || {
            let _ = std::io::copy(&mut server_too, &mut client_too);
            let _ = client_too.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut client, &mut server);
        let _ = server.shutdown(Shutdown::Write);
        let _ = back.join();
    });
    (port, thread)
}

fn read_exactly(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).expect("the client speaks");
    bytes
}

fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read_exactly(socket, 1));
    }
    String::from_utf8(head).expect("ascii")
}

#[test]
fn a_session_logs_in_through_an_http_proxy_and_through_a_socks_proxy() {
    let world = World::secure(2);
    let endpoint = world.sim.info()["port"].as_u64().expect("a port") as u16;
    let (http, http_thread) = proxy(move |client| {
        let head = read_head(client);
        assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{endpoint} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwdw==\r\n"), "{head}");
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("written");
        Some(endpoint)
    });
    let (socks, socks_thread) = proxy(move |client| {
        assert_eq!(read_exactly(client, 4), [5, 2, 0, 2]);
        client.write_all(&[5, 2]).expect("written");
        assert_eq!(read_exactly(client, 9), *b"\x01\x04user\x02pw");
        client.write_all(&[1, 0]).expect("written");
        let mut expected = vec![5, 1, 0, 1, 127, 0, 0, 1];
        expected.extend_from_slice(&endpoint.to_be_bytes());
        assert_eq!(read_exactly(client, 10), expected);
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).expect("written");
        Some(endpoint)
    });
    world.bench.open_through("s0", 1, Some(&format!("http://user:pw@127.0.0.1:{http}")));
    world.bench.open_through("s1", 1, Some(&format!("socks5://user:pw@127.0.0.1:{socks}")));
    world.bench.wait_online("s0", 1);
    world.bench.wait_online("s1", 1);
    drop(world);
    http_thread.join().expect("the http proxy");
    socks_thread.join().expect("the socks proxy");
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_code() {
    let (port, thread) = proxy(|client| {
        read_head(client);
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").expect("written");
        None
    });
    let closed = closed_at("wss://web.example/", Some(&format!("http://127.0.0.1:{port}")));
    assert_eq!((closed.reason, closed.code), (CloseReason::ProxyAuthFailed, Some(407)));
    thread.join().expect("the proxy");
}

#[test]
fn a_proxy_that_is_not_there_is_not_the_endpoints_fault() {
    let closed = closed_at("wss://web.example/", Some(&format!("http://127.0.0.1:{}", free_port())));
    assert_eq!(closed.reason, CloseReason::ProxyFailed);
}
