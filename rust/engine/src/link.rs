//! One transport: a TCP socket and, on it, TLS. Buffers are the thread's; a link keeps bytes only while a TLS
//! record is incomplete or while the socket is full.

use crate::tls::{Tls, TlsProgress};
use mio::net::TcpStream;
use runner_client::TransportEnd;
use runner_proto::close_reason::CloseReason;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes read from one socket in one turn; what is left waits for the next turn, so that a flooding session cannot
/// starve the others. One TLS record of the largest size.
pub(crate) const READ_BUDGET: usize = 16 * 1024;
/// Most bytes that wait for a full socket. A login, a thousand acks and a large message fit.
const MAX_UNSENT: usize = 1024 * 1024;
/// Shared buffers that grew beyond this are given back.
const MAX_KEPT: usize = 256 * 1024;

/// The buffers that all links of a thread share; empty between two calls.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    read: Vec<u8>,
    /// What came, above TLS.
    pub(crate) plain: Vec<u8>,
    /// What goes, above TLS.
    pub(crate) out: Vec<u8>,
    /// What goes, as the socket gets it.
    pub(crate) wire: Vec<u8>,
}

impl Buffers {
    /// Empties all of them, whatever a call left behind.
    pub(crate) fn reset(&mut self) {
        for buffer in [&mut self.plain, &mut self.out, &mut self.wire] {
            buffer.clear();
            buffer.shrink_to(MAX_KEPT);
        }
        self.read.truncate(MAX_KEPT);
        self.read.shrink_to(MAX_KEPT);
    }
}

pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    pub(crate) tls: Option<Tls>,
    /// What the full socket did not take; unallocated when it took all.
    unsent: Vec<u8>,
    /// The peer closed its side or the socket failed: a short read is not the end of what there is to learn.
    pub(crate) is_ending: bool,
}

/// What one read found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// There may be more: come back in the next turn.
    pub(crate) more: bool,
    /// After what was read, the transport is over.
    pub(crate) end: Option<TransportEnd>,
}

impl Link {
    pub(crate) fn new(socket: TcpStream, tls: Option<Tls>) -> Self {
        Self { socket, tls, unsent: Vec::new(), is_ending: false }
    }

    /// Bytes of a TLS record whose rest has not come.
    pub(crate) fn held_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.partial().len())
    }

    /// Reads once. Application data is in `buffers.plain`, what TLS answers in `buffers.wire`.
    pub(crate) fn read(&mut self, buffers: &mut Buffers) -> Result<Taken, ReadError> {
        let Buffers { read, plain, wire, .. } = buffers;
        let held = self.held_bytes();
        if read.len() < held + READ_BUDGET {
            read.resize(held + READ_BUDGET, 0);
        }
        let (front, rest) = read.split_at_mut(held);
        let room = rest.get_mut(..READ_BUDGET).unwrap_or_default();
        let count = match read_once(&mut self.socket, room) {
            Ok(0) => return Ok(Taken { more: false, end: Some(end(CloseReason::ConnectionClosed, "")) }),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Taken { more: false, end: None });
            }
            Err(error) => return Ok(Taken { more: false, end: Some(end_of(&error)) }),
        };
        let mut taken = Taken { more: count == READ_BUDGET || self.is_ending, end: None };
        match &mut self.tls {
            None => plain.extend_from_slice(room.get(..count).unwrap_or_default()),
            Some(tls) => {
                front.copy_from_slice(tls.partial());
                let records = read.get_mut(..held + count).unwrap_or_default();
                if tls.handle_input(records, plain, wire).map_err(ReadError)? == TlsProgress::PeerClosed {
                    taken.end = Some(end(CloseReason::ConnectionClosed, "the peer said goodbye in TLS"));
                }
            }
        }
        Ok(taken)
    }

    /// Sends `buffers.wire` and then `buffers.out`, both empty afterwards; keeps what the socket does not take.
    pub(crate) fn write(&mut self, buffers: &mut Buffers) -> Result<(), WriteError> {
        let Buffers { out, wire, .. } = buffers;
        if !out.is_empty() {
            match &mut self.tls {
                Some(tls) => tls.encrypt(out, wire).map_err(|error| WriteError::Ended(end_of_tls(&error)))?,
                None => wire.append(out),
            }
            out.clear();
        }
        let outcome = if self.unsent.is_empty() {
            let sent = write_all(&mut self.socket, wire)?;
            self.unsent.extend_from_slice(wire.get(sent..).unwrap_or_default());
            self.bounded()
        } else {
            self.unsent.append(wire);
            self.write_unsent()
        };
        wire.clear();
        outcome
    }

    /// Sends what waits; call when the socket is writable.
    pub(crate) fn write_unsent(&mut self) -> Result<(), WriteError> {
        let sent = write_all(&mut self.socket, &self.unsent)?;
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        self.bounded()
    }

    fn bounded(&self) -> Result<(), WriteError> {
        if self.unsent.len() > MAX_UNSENT { Err(WriteError::Stalled) } else { Ok(()) }
    }

    /// Says goodbye in TLS, best effort, before the socket is dropped.
    pub(crate) fn farewell(&mut self, buffers: &mut Buffers) {
        if let Some(tls) = &mut self.tls {
            tls.close_notify(&mut buffers.wire);
        }
        // The peer may be gone already; there is nobody left to tell.
        let _ = self.write(buffers);
    }
}

/// The peer broke TLS.
#[derive(Debug)]
pub(crate) struct ReadError(pub(crate) rustls::Error);

#[derive(Debug)]
pub(crate) enum WriteError {
    /// The transport is over.
    Ended(TransportEnd),
    /// The peer does not read: more waits than may.
    Stalled,
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Ended(end_of(&error))
    }
}

fn read_once(socket: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(room) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// How much of `bytes` the socket took before it was full.
fn write_all(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(0) => break,
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn end(reason: CloseReason, detail: &str) -> TransportEnd {
    TransportEnd { reason, detail: detail.to_owned() }
}

/// How a socket error ends a transport.
fn end_of(error: &io::Error) -> TransportEnd {
    let reason = match error.kind() {
        // TCP_USER_TIMEOUT, or the kernel's own patience.
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            CloseReason::ConnectionTimedOut
        }
        _ => CloseReason::ConnectionReset,
    };
    end(reason, &error.to_string())
}

/// How broken TLS ends a transport that was up.
pub(crate) fn end_of_tls(error: &rustls::Error) -> TransportEnd {
    end(CloseReason::ConnectionReset, &format!("tls: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A link and the peer's end of it.
    fn pair() -> (Link, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let peer = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (ours, _) = listener.accept().expect("accept");
        ours.set_nonblocking(true).expect("a socket");
        (Link::new(TcpStream::from_std(ours), None), peer)
    }

    /// Reads until something came; the peer's bytes are on their way.
    fn read_some(link: &mut Link, buffers: &mut Buffers) -> Taken {
        loop {
            let taken = link.read(buffers).expect("no tls");
            if !buffers.plain.is_empty() || taken.end.is_some() {
                return taken;
            }
        }
    }

    /// Pain 20.
    #[test]
    fn one_turn_reads_no_more_than_the_budget_from_a_flooding_peer() {
        let (mut link, mut peer) = pair();
        let mut buffers = Buffers::default();
        peer.write_all(&[7; 3 * READ_BUDGET]).expect("room in the socket");
        let mut total = 0;
        while total < 3 * READ_BUDGET {
            let taken = read_some(&mut link, &mut buffers);
            assert!(buffers.plain.len() <= READ_BUDGET);
            assert_eq!(taken.more, buffers.plain.len() == READ_BUDGET, "a full read may have left something");
            total += buffers.plain.len();
            buffers.reset();
        }
    }

    #[test]
    fn the_end_is_seen_behind_the_last_bytes() {
        let (mut link, mut peer) = pair();
        let mut buffers = Buffers::default();
        peer.write_all(b"last words").expect("written");
        drop(peer);
        link.is_ending = true;
        let first = read_some(&mut link, &mut buffers);
        assert_eq!((first.more, first.end), (true, None), "a short read, but the end is announced");
        buffers.reset();
        let end = read_some(&mut link, &mut buffers).end.expect("the end");
        assert_eq!(end.reason, CloseReason::ConnectionClosed);
    }

    #[test]
    fn a_peer_that_does_not_read_is_stalled_at_the_bound_and_nothing_is_lost_before() {
        let (mut link, mut peer) = pair();
        let mut buffers = Buffers::default();
        let mut written = 0_usize;
        let outcome = loop {
            buffers.out.extend_from_slice(&[(written / 65_536) as u8; 65_536]);
            match link.write(&mut buffers) {
                Ok(()) => written += 65_536,
                stalled => break stalled,
            }
            assert!(link.unsent.len() <= MAX_UNSENT && written < 256 * 1024 * 1024);
        };
        assert!(matches!(outcome, Err(WriteError::Stalled)));
        // The peer wakes up: everything comes, in order.
        let mut expected = 0;
        let mut chunk = vec![0; 65_536];
        while expected < written {
            peer.read_exact(&mut chunk).expect("all of it");
            assert!(chunk.iter().all(|&byte| byte == (expected / 65_536) as u8));
            expected += 65_536;
            // Still above the bound for a while, or below it again: both are fine here.
            let _ = link.write_unsent();
        }
    }
}
