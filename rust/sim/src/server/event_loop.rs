//! The loop that carries bytes and time between the sockets and the [`Hub`]; it decides nothing itself.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use runner_proto::entropy::Entropy;
use runner_proto::time::Instant;
use rustls::{HandshakeKind, ServerConfig};
use serde_json::Value;

use super::control::{ControlConnection, Served};
use super::socket::{Buffers, ReadOutcome, Socket};
use super::{Call, CallError};
use crate::core::{Accept, Command, ConnectionId, Cx, Hub, Reply, Verdict};

const CONTROL: Token = Token(0);
pub(super) const WAKE: Token = Token(1);
const LISTEN: [Token; 2] = [Token(2), Token(3)];
const FIRST_CONNECTION: usize = 16;

/// Connections that may wait to be accepted; a storm of 10,000 dials must not overflow it for long.
const BACKLOG: i32 = 4096;
/// Reads of one socket in one turn, so that a flooding client does not starve the others.
const READS_PER_TURN: usize = 8;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 256;

/// Randomness of the operating system.
pub(super) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Linux fails here only before its generator is seeded or without the system call: nothing to run on.
        #[allow(clippy::expect_used, reason = "a server without randomness must not serve")]
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

/// Listens on loopback, `port` 0 for any; both address families when the machine has both.
pub(super) fn listen(port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let port = v4.local_addr()?.port();
    // A machine without IPv6, or with the port taken there, is served over IPv4 alone.
    let v6 = bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).ok();
    Ok((port, std::iter::once(v4).chain(v6).collect()))
}

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

pub(super) struct EventLoop {
    pub(super) poll: Poll,
    pub(super) hub: Hub,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) control: TcpListener,
    pub(super) config: Arc<ServerConfig>,
    pub(super) port: u16,
    pub(super) calls: Receiver<Call>,
    pub(super) started: std::time::Instant,
    pub(super) entropy: OsEntropy,
    pub(super) buffers: Buffers,
    pub(super) sockets: HashMap<ConnectionId, Socket>,
    pub(super) controls: HashMap<u32, ControlConnection>,
    pub(super) next_control: u32,
    /// Sockets that were left with something to read.
    pub(super) ready: Vec<ConnectionId>,
    /// Who waits for the end of a push.
    pub(super) waiting: HashMap<u64, Waiter>,
    pub(super) out: Vec<u8>,
    /// More connections may be waiting to be accepted.
    pub(super) accepting: bool,
}

/// Where the answer to a command goes once it is known.
pub(super) enum Waiter {
    Control(u32),
    Call(std::sync::mpsc::SyncSender<Result<Value, CallError>>),
}

/// `now` in the three forms that the core needs.
macro_rules! cx {
    ($this:ident) => {
        Cx { now: clock($this.started), unix_ms: unix_ms(), entropy: &mut $this.entropy }
    };
}

fn clock(started: std::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl EventLoop {
    /// Registers what listens; called once, before [`run`](Self::run).
    pub(super) fn register(&mut self) -> io::Result<()> {
        self.poll.registry().register(&mut self.control, CONTROL, Interest::READABLE)?;
        self.register_listeners()
    }

    fn register_listeners(&mut self) -> io::Result<()> {
        for (listener, token) in self.listeners.iter_mut().zip(LISTEN) {
            self.poll.registry().register(listener, token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Serves until somebody says quit.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while !self.hub.is_quitting() {
            let timeout = if self.ready.is_empty() && !self.accepting {
                self.hub.poll_timeout().map(|at| at.saturating_duration_since(clock(self.started)))
            } else {
                Some(Duration::ZERO)
            };
            // A hair later than asked, or a timer that is due in 0.4 ms would spin until then.
            let timeout =
                timeout.map(|left| if left.is_zero() { left } else { left + Duration::from_micros(50) });
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let mut controls = Vec::new();
            for id in std::mem::take(&mut self.ready) {
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.is_ready = false;
                }
                self.read(id);
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    CONTROL => self.accept_control()?,
                    token if LISTEN.contains(&token) => self.accepting = true,
                    Token(number) => {
                        let id = u32::try_from((number - FIRST_CONNECTION) / 2).unwrap_or(u32::MAX);
                        if number % 2 == 1 {
                            controls.push(id);
                            continue;
                        }
                        if event.is_writable() {
                            self.flush(id);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.wake(id, event.is_read_closed() || event.is_error());
                        }
                    }
                }
            }
            let mut cx = cx!(self);
            self.hub.handle_timeout(&mut cx);
            self.settle();
            for id in controls {
                self.serve_control(id);
            }
            while let Ok(call) = self.calls.try_recv() {
                self.answer_call(call);
            }
            // After everything else: a client that hung up and dialled again is seen hanging up first.
            if self.accepting {
                self.accept()?;
            }
            self.settle();
            self.finish_pushes();
        }
        Ok(())
    }

    // ------------------------------------------------------------------ the main port

    fn accept(&mut self) -> io::Result<()> {
        self.accepting = false;
        for at in 0..self.listeners.len() {
            for turn in 0..=ACCEPTS_PER_TURN {
                if turn == ACCEPTS_PER_TURN {
                    self.accepting = true;
                    break;
                }
                let Some(listener) = self.listeners.get(at) else { break };
                let stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                        self.accepting = true;
                        break;
                    }
                    // The client was gone before it was accepted.
                    Err(_) => continue,
                };
                self.admit(stream)?;
            }
        }
        Ok(())
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let mut cx = cx!(self);
        match self.hub.accept(&mut cx) {
            Accept::Reset => Socket::new(stream).reset_on_close(),
            Accept::Take(id) => {
                // Fails only when the client is gone already, which the first read says as well.
                let _ = stream.set_nodelay(true);
                let token = Token(FIRST_CONNECTION + 2 * id as usize);
                self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                self.sockets.insert(id, Socket::new(stream));
            }
        }
        Ok(())
    }

    fn wake(&mut self, id: ConnectionId, hung_up: bool) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.readable = true;
        socket.hung_up |= hung_up;
        if socket.is_closing && hung_up {
            self.sockets.remove(&id);
            return;
        }
        if hung_up {
            let mut cx = cx!(self);
            self.hub.handle_hang_up(id, &mut cx);
        }
        self.read(id);
    }

    fn read(&mut self, id: ConnectionId) {
        for _ in 0..READS_PER_TURN {
            if !self.hub.is_reading(id) {
                return;
            }
            let Some(socket) = self.sockets.get_mut(&id) else { return };
            if !socket.readable {
                return;
            }
            let secure = socket.is_secure();
            match socket.read(&self.config, &mut self.buffers) {
                ReadOutcome::Blocked => return,
                ReadOutcome::Data(progress) => {
                    let now_secure = !secure && socket.is_secure();
                    let mut plain = std::mem::take(&mut self.buffers.plain);
                    let mut cx = cx!(self);
                    if now_secure {
                        self.hub.handle_secure(id);
                    }
                    if let Some(kind) = progress.finished {
                        self.hub.handle_tls_finished(matches!(kind, HandshakeKind::Resumed));
                    }
                    self.hub.handle_input(id, &mut plain, &mut cx);
                    self.buffers.plain = plain;
                    if progress.closed {
                        let mut cx = cx!(self);
                        self.hub.handle_transport_end(id, &mut cx);
                        return;
                    }
                }
                ReadOutcome::Ended => {
                    let mut cx = cx!(self);
                    self.hub.handle_transport_end(id, &mut cx);
                    return;
                }
                ReadOutcome::Broken(detail) => {
                    let mut cx = cx!(self);
                    self.hub.handle_broken(id, &detail, &mut cx);
                    return;
                }
            }
        }
        self.read_later(id);
    }

    fn read_later(&mut self, id: ConnectionId) {
        if let Some(socket) = self.sockets.get_mut(&id)
            && !std::mem::replace(&mut socket.is_ready, true)
        {
            self.ready.push(id);
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let broken = socket.flush().is_err();
        let backlog = socket.backlog();
        if socket.is_closing {
            if broken || backlog == 0 {
                self.sockets.remove(&id);
            }
            return;
        }
        let mut cx = cx!(self);
        if broken {
            self.hub.handle_transport_end(id, &mut cx);
        } else {
            self.hub.handle_backlog(id, backlog);
        }
    }

    /// Carries out what the hub decided, until nothing is left.
    fn settle(&mut self) {
        while let Some(id) = self.hub.poll_touched() {
            self.out.clear();
            let verdict = self.hub.take_output(id, &mut self.out);
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            if !self.out.is_empty() {
                let failed = socket.write(&self.out, &mut self.buffers).is_err();
                let backlog = socket.backlog();
                self.hub.handle_backlog(id, backlog);
                if failed {
                    let mut cx = cx!(self);
                    self.hub.handle_transport_end(id, &mut cx);
                    continue;
                }
            }
            match verdict {
                Verdict::Open => {
                    // Reading was paused, and there is something to read.
                    if socket.readable && self.hub.is_reading(id) {
                        self.read_later(id);
                    }
                }
                Verdict::Close => {
                    socket.close_notify();
                    socket.is_closing = true;
                    if socket.backlog() == 0 || socket.hung_up {
                        self.sockets.remove(&id);
                    }
                }
                Verdict::Reset => {
                    socket.reset_on_close();
                    self.sockets.remove(&id);
                }
            }
        }
        self.obey_listening();
    }

    /// Stops or resumes listening, as the hub says.
    fn obey_listening(&mut self) {
        let wanted = self.hub.is_listening();
        if wanted != self.listeners.is_empty() {
            return;
        }
        if !wanted {
            self.listeners.clear();
            self.accepting = false;
            return;
        }
        // The port was ours a moment ago; if somebody took it, the next turn tries again.
        if let Ok((_, listeners)) = listen(self.port) {
            self.listeners = listeners;
            if self.register_listeners().is_err() {
                self.listeners.clear();
            }
        }
    }

    // ------------------------------------------------------------------ control port and library calls

    fn accept_control(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.control.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => continue,
            };
            let id = self.next_control;
            self.next_control = self.next_control.wrapping_add(1);
            let token = Token(FIRST_CONNECTION + 1 + 2 * id as usize);
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.controls.insert(id, ControlConnection::new(stream));
        }
    }

    fn serve_control(&mut self, id: u32) {
        loop {
            let Some(connection) = self.controls.get_mut(&id) else { return };
            match connection.serve() {
                Served::Nothing => return,
                Served::Gone => {
                    self.controls.remove(&id);
                    return;
                }
                Served::Command(command) => self.obey(*command, Waiter::Control(id)),
            }
        }
    }

    fn answer_call(&mut self, call: Call) {
        let waiter = Waiter::Call(call.answer);
        match Command::parse(&call.method, &call.path, &call.query, &call.body) {
            Ok(command) => self.obey(command, waiter),
            Err(error) => self.reply(waiter, Err(error.to_string())),
        }
    }

    /// Obeys a command. Whoever asked is answered when the sockets have been told, so that what they do next finds it done.
    fn obey(&mut self, command: Command, waiter: Waiter) {
        let reply = self.hub.command(command, &mut cx!(self));
        self.settle();
        match reply {
            Reply::Now(answer) => self.reply(waiter, answer),
            Reply::Later(job) => {
                self.waiting.insert(job, waiter);
            }
        }
    }

    fn finish_pushes(&mut self) {
        while let Some((job, answer)) = self.hub.poll_finished() {
            if let Some(waiter) = self.waiting.remove(&job) {
                self.reply(waiter, Ok(answer));
            }
        }
    }

    fn reply(&mut self, waiter: Waiter, answer: Result<Value, String>) {
        match waiter {
            Waiter::Control(id) => {
                if let Some(connection) = self.controls.get_mut(&id) {
                    connection.answer(answer);
                    if connection.is_gone() {
                        self.controls.remove(&id);
                    }
                }
            }
            // The caller may have given up waiting.
            Waiter::Call(sender) => drop(sender.try_send(answer.map_err(CallError::Refused))),
        }
    }
}
