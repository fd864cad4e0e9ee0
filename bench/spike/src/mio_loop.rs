//! One thread, `mio`, one slab of sessions, one heap of deadlines.

use crate::tls::{Buffers, Tls, client_config};
use crate::{Args, Outcome, rss_kib, usage};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

struct Session {
    socket: TcpStream,
    tls: Tls,
}

pub fn run(args: &Args) -> Outcome {
    let config = client_config();
    let mut poll = Poll::new().expect("epoll");
    let mut events = Events::with_capacity(1024);
    let mut buffers = Buffers::new();
    let mut sessions: Vec<Session> = Vec::with_capacity(args.sessions);
    let mut deadlines: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let rss_before_kib = rss_kib();
    let mut rss_half_kib = 0;
    for index in 0..args.sessions {
        if index == args.sessions / 2 {
            rss_half_kib = rss_kib();
        }
        let mut socket = TcpStream::connect(([127, 0, 0, 1], args.port).into()).expect("connect");
        poll.registry().register(&mut socket, Token(index), Interest::READABLE).expect("register");
        sessions.push(Session { socket, tls: Tls::new(&config) });
        deadlines.push(Reverse((Instant::now() + Duration::from_secs(3600), index)));
        let session = &mut sessions[index];
        session.tls.start(&mut buffers);
        flush(session, &mut buffers);
        while !sessions[index].tls.online {
            turn(&mut poll, &mut events, &mut sessions, &mut buffers, None);
        }
    }
    let settle = Instant::now() + Duration::from_millis(500);
    while Instant::now() < settle {
        turn(&mut poll, &mut events, &mut sessions, &mut buffers, Some(Duration::from_millis(50)));
    }
    let rss_all_kib = rss_kib();
    let usage_before = usage();
    let (mut records, mut wakeups) = (0, 0);
    let started = Instant::now();
    let end = started + Duration::from_secs(args.seconds + 1);
    while Instant::now() < end {
        let next = deadlines.peek().map(|Reverse((at, _))| *at).unwrap_or(end).min(end);
        records += turn(&mut poll, &mut events, &mut sessions, &mut buffers, Some(next.saturating_duration_since(Instant::now())));
        wakeups += 1;
    }
    let polled = started.elapsed();
    Outcome { rss_before_kib, rss_half_kib, rss_all_kib, usage_before, usage_after: usage(), records, wakeups: Some(wakeups), polled }
}

fn flush(session: &mut Session, buffers: &mut Buffers) {
    if !buffers.write.is_empty() {
        match session.socket.write(&buffers.write) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotConnected || e.kind() == ErrorKind::WouldBlock => {
                // Loopback connects at once; the spike has no leftover buffer.
                panic!("short write: {e}")
            }
            Err(e) => panic!("{e}"),
        }
        buffers.write.clear();
    }
}

fn turn(poll: &mut Poll, events: &mut Events, sessions: &mut [Session], buffers: &mut Buffers, timeout: Option<Duration>) -> u64 {
    match poll.poll(events, timeout) {
        Err(e) if e.kind() == ErrorKind::Interrupted => return 0,
        other => other.expect("poll"),
    }
    let mut records = 0;
    for event in events.iter() {
        let session = &mut sessions[event.token().0];
        loop {
            match session.tls.pump(buffers, |room| session.socket.read(room)) {
                Ok(Some(n)) => {
                    records += n;
                    // A short read says that the socket is empty (edge-triggered epoll allows this).
                    flush(session, buffers);
                    break;
                }
                Ok(None) => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
    records
}
