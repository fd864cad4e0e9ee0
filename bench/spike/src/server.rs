//! The other end, in a process of its own: accepts, reads what comes, pushes at a rate.

use crate::Args;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConnection;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Peer {
    socket: TcpStream,
    tls: ServerConnection,
}

pub fn run(args: &Args) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("config");
    config.ticketer = rustls::crypto::ring::Ticketer::new().expect("ticketer");
    let config = Arc::new(config);
    let mut poll = Poll::new().expect("epoll");
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(([127, 0, 0, 1], args.port).into()).expect("bind");
    poll.registry().register(&mut listener, Token(usize::MAX - 1), Interest::READABLE).expect("register");
    let mut peers: Vec<Peer> = Vec::new();
    let (mut begun, mut pushed, mut pick) = (None, 0_u64, 0x9e37_79b9_7f4a_7c15_u64);
    loop {
        let timeout = if begun.is_some() { Duration::from_micros(500) } else { Duration::from_millis(100) };
        let _ = poll.poll(&mut events, Some(timeout));
        for event in events.iter() {
            if event.token().0 == usize::MAX - 1 {
                while let Ok((mut socket, _)) = listener.accept() {
                    let _ = socket.set_nodelay(true);
                    poll.registry().register(&mut socket, Token(peers.len()), Interest::READABLE).expect("register");
                    peers.push(Peer { socket, tls: ServerConnection::new(Arc::clone(&config)).expect("tls") });
                }
            } else if !serve(&mut peers[event.token().0]) {
                return;
            }
        }
        if begun.is_none() && peers.len() == args.sessions && peers.iter().all(|p| !p.tls.is_handshaking()) {
            begun = Some(Instant::now() + Duration::from_millis(1200));
        }
        if let Some(start) = begun {
            let elapsed = Instant::now().saturating_duration_since(start);
            if elapsed.as_secs() >= args.seconds {
                continue;
            }
            let due = (elapsed.as_secs_f64() * f64::from(args.rate)) as u64;
            while pushed < due {
                pick = pick.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let count = peers.len();
                let peer = &mut peers[(pick >> 33) as usize % count];
                peer.tls.writer().write_all(&[9; 40]).expect("buffer");
                let _ = peer.tls.write_tls(&mut peer.socket);
                pushed += 1;
            }
        }
    }
}

/// False when the client went away: the run is over.
fn serve(peer: &mut Peer) -> bool {
    loop {
        match peer.tls.read_tls(&mut peer.socket) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
        if peer.tls.process_new_packets().is_err() {
            return false;
        }
        let mut sink = [0; 4096];
        while let Ok(1..) = peer.tls.reader().read(&mut sink) {}
    }
    while peer.tls.wants_write() {
        if peer.tls.write_tls(&mut peer.socket).is_err() {
            break;
        }
    }
    true
}
