//! One accepted TCP connection: the socket, TLS if the client began with it, and what could not be written yet.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ServerConfig;

use super::tls::{Progress, Tls};

/// First byte of a TLS handshake record; no HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// Bytes waiting for the peer above which a connection is given up: the client does not read.
const MAX_UNSENT: usize = 64 * 1024 * 1024;

/// How the bytes of a connection are protected.
enum Security {
    /// Nothing has been received.
    Unknown,
    Plain,
    Tls(Tls),
}

/// A socket of the main port.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    security: Security,
    /// Encrypted bytes that the kernel did not take, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// The kernel may have more for us: mio reports edges, so this is remembered while reading is paused.
    pub(super) readable: bool,
    /// The peer has ended its side, so reading goes on until the end shows.
    pub(super) hung_up: bool,
    /// On the loop's list of sockets to read in the next turn.
    pub(super) is_ready: bool,
    /// The core has forgotten this connection; it closes once the kernel has taken everything.
    pub(super) is_closing: bool,
}

/// Buffers that all connections of a thread share.
pub(super) struct Buffers {
    pub(super) input: Box<[u8]>,
    pub(super) plain: Vec<u8>,
    pub(super) wire: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { input: vec![0; 64 * 1024].into_boxed_slice(), plain: Vec::new(), wire: Vec::new() }
    }
}

/// What a read gave.
pub(super) enum ReadOutcome {
    /// Plaintext is in `Buffers::plain`.
    Data(Progress),
    /// Nothing more for now.
    Blocked,
    /// The peer will send no more, or the connection broke.
    Ended,
    /// TLS failed; the alert to send is in `Buffers::wire`.
    Broken(String),
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            security: Security::Unknown,
            unsent: Vec::new(),
            sent: 0,
            readable: false,
            hung_up: false,
            is_ready: false,
            is_closing: false,
        }
    }

    /// True once the client has begun TLS.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self.security, Security::Tls(_))
    }

    /// Bytes that wait for the kernel.
    pub(super) fn backlog(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Reads once; plaintext goes to `buffers.plain`, which is cleared first.
    pub(super) fn read(&mut self, config: &Arc<ServerConfig>, buffers: &mut Buffers) -> ReadOutcome {
        buffers.plain.clear();
        let got = match self.stream.read(&mut buffers.input) {
            Ok(0) => {
                self.readable = false;
                return ReadOutcome::Ended;
            }
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return ReadOutcome::Blocked;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return ReadOutcome::Data(Progress::default());
            }
            Err(_) => return ReadOutcome::Ended,
        };
        // A short read empties the socket, and what comes later is reported as a new edge.
        if got < buffers.input.len() && !self.hung_up {
            self.readable = false;
        }
        let input = buffers.input.get_mut(..got).unwrap_or_default();
        if matches!(self.security, Security::Unknown) {
            self.security = match input.first() {
                Some(&TLS_HANDSHAKE) => match Tls::new(config) {
                    Ok(tls) => Security::Tls(tls),
                    Err(error) => return ReadOutcome::Broken(error.to_string()),
                },
                _ => Security::Plain,
            };
        }
        let Security::Tls(tls) = &mut self.security else {
            buffers.plain.extend_from_slice(input);
            return ReadOutcome::Data(Progress::default());
        };
        buffers.wire.clear();
        match tls.read(input, &mut buffers.plain, &mut buffers.wire) {
            Ok(progress) => {
                if !buffers.wire.is_empty() && self.write_wire(&buffers.wire).is_err() {
                    return ReadOutcome::Ended;
                }
                ReadOutcome::Data(progress)
            }
            Err(error) => ReadOutcome::Broken(error.to_string()),
        }
    }

    /// Sends plaintext; what the kernel does not take is kept for [`flush`](Self::flush).
    pub(super) fn write(&mut self, plain: &[u8], buffers: &mut Buffers) -> io::Result<()> {
        match &mut self.security {
            Security::Tls(tls) => {
                buffers.wire.clear();
                tls.write(plain, &mut buffers.wire).map_err(io::Error::other)?;
                let wire = std::mem::take(&mut buffers.wire);
                let written = self.write_wire(&wire);
                buffers.wire = wire;
                written
            }
            _ => self.write_wire(plain),
        }
    }

    /// Says goodbye in TLS; the caller closes the socket.
    pub(super) fn close_notify(&mut self) {
        if let Security::Tls(tls) = &mut self.security {
            let mut wire = Vec::new();
            tls.close(&mut wire);
            // The connection ends either way.
            let _ = self.write_wire(&wire);
        }
    }

    fn write_wire(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        if self.backlog() == 0 {
            while !left.is_empty() {
                match self.stream.write(left) {
                    Ok(taken) => left = left.get(taken..).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if !left.is_empty() {
            if self.backlog() + left.len() > MAX_UNSENT {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.unsent.extend_from_slice(left);
        }
        Ok(())
    }

    /// Hands the kernel what it did not take before.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(left) = self.unsent.get(self.sent..).filter(|left| !left.is_empty()) {
            match self.stream.write(left) {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Makes the coming close a reset.
    pub(super) fn reset_on_close(&self) {
        // A socket that the peer has already reset cannot be told; it needs no telling.
        let _ = socket2::SockRef::from(&self.stream.as_fd()).set_linger(Some(std::time::Duration::ZERO));
    }
}
