//! From `open` to a transport that is up: device, name, TCP race, proxy, TLS. One deadline bounds it all.

use crate::config::Endpoint;
use crate::link::{Buffers, Link, ReadError, WriteError};
use crate::proxy::{Conversation, Proxy};
use crate::race::Race;
use crate::resolve::Answer;
use crate::tls::Connector;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::phase::Phase;
use runner_proto::time::Instant;
use runner_store::{Device, DeviceError};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// How long sent bytes may stay unacknowledged before TCP gives up. Behind the dead-socket clock, for the time when
/// that one stands still because the store lags.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// What all dials of an engine share.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    /// `None` for `ws://`.
    pub(crate) connector: Option<Connector>,
}

/// One dial.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) version: [u32; 3],
    pub(crate) resume: bool,
    /// A phone may link a device when there is none.
    pub(crate) pair: bool,
    proxy: Option<Proxy>,
    /// Set when the store answered.
    who: Option<Who>,
    deadline: Instant,
    state: State,
}

/// Who dials.
#[derive(Debug)]
pub(crate) enum Who {
    /// A device that logs in.
    Device(Box<Device>),
    /// One that a phone is to link.
    New,
}

enum State {
    /// The store was asked for the device.
    Loading,
    /// The resolver was asked for the addresses.
    Resolving,
    /// TCP connects, to one address or to some.
    Racing { race: Race, attempts: Vec<TcpStream>, last_error: Option<io::Error> },
    /// The proxy is asked for a tunnel.
    Tunnelling { link: Box<Link>, conversation: Box<Conversation> },
    /// The TLS handshake.
    Securing { link: Box<Link> },
    /// The link was handed out.
    Done,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loading => "Loading",
            Self::Resolving => "Resolving",
            Self::Racing { .. } => "Racing",
            Self::Tunnelling { .. } => "Tunnelling",
            Self::Securing { .. } => "Securing",
            Self::Done => "Done",
        })
    }
}

/// What the owner of a dial does next.
pub(crate) enum Step {
    /// Come back when something happens or at [`Dial::poll_timeout`].
    Wait,
    /// Ask the resolver for [`Dial::host`].
    Resolve,
    /// The TLS handshake began.
    Securing,
    /// The transport is up.
    Up(Box<Link>, Who),
    /// There will be no transport.
    Failed(Closed),
}

/// What a dial needs of the world for the length of one call.
pub(crate) struct DialCx<'a> {
    pub(crate) now: Instant,
    pub(crate) target: &'a Target,
    pub(crate) registry: &'a Registry,
    pub(crate) token: Token,
    pub(crate) buffers: &'a mut Buffers,
}

impl Dial {
    pub(crate) fn new(
        version: [u32; 3],
        resume: bool,
        pair: bool,
        proxy: Option<Proxy>,
        deadline: Instant,
    ) -> Self {
        Self { version, resume, pair, proxy, who: None, deadline, state: State::Loading }
    }

    pub(crate) fn phase(&self) -> Phase {
        if let State::Securing { .. } = self.state { Phase::Securing } else { Phase::Dialling }
    }

    /// The name to resolve: the proxy's, or the endpoint's.
    pub(crate) fn host<'a>(&'a self, target: &'a Target) -> &'a str {
        self.proxy.as_ref().map_or(&target.endpoint.host, Proxy::host)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let race = if let State::Racing { race, .. } = &self.state { race.poll_timeout() } else { None };
        race.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// The store has the device.
    pub(crate) fn on_device(&mut self, device: Device) -> Step {
        self.go_on(Who::Device(Box::new(device)))
    }

    /// The session has no device yet.
    pub(crate) fn on_no_device(&mut self, why: &DeviceError) -> Step {
        if self.pair { self.go_on(Who::New) } else { self.failed(CloseReason::DeviceMissing, why) }
    }

    fn go_on(&mut self, who: Who) -> Step {
        self.who = Some(who);
        self.state = State::Resolving;
        Step::Resolve
    }

    /// The resolver has an answer for [`host`](Self::host).
    pub(crate) fn on_resolved(&mut self, answer: &Answer, cx: &mut DialCx<'_>) -> Step {
        if !matches!(self.state, State::Resolving) {
            return Step::Wait;
        }
        let addresses = match answer {
            Ok(addresses) => addresses,
            Err(why) => return self.failed(self.unless_proxy(CloseReason::ResolveFailed), why),
        };
        let port = self.proxy.as_ref().map_or(cx.target.endpoint.port, Proxy::port);
        let addresses: Vec<SocketAddr> = addresses.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        if !cx.target.endpoint.secure && !addresses.iter().all(|address| address.ip().is_loopback()) {
            return self.failed(
                CloseReason::ResolveFailed,
                "ws:// is for loopback only, and this name is elsewhere",
            );
        }
        if addresses.is_empty() {
            return self.failed(self.unless_proxy(CloseReason::ResolveFailed), "the name has no address");
        }
        let race = Race::new(&addresses, cx.now);
        self.state = State::Racing { race, attempts: Vec::new(), last_error: None };
        self.race_on(cx)
    }

    /// A socket of this dial has news.
    pub(crate) fn handle_ready(&mut self, is_ending: bool, cx: &mut DialCx<'_>) -> Step {
        match &mut self.state {
            State::Racing { .. } => self.race_on(cx),
            State::Tunnelling { link, .. } | State::Securing { link } => {
                link.is_ending |= is_ending;
                self.converse(cx)
            }
            State::Loading | State::Resolving | State::Done => Step::Wait,
        }
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub(crate) fn handle_timeout(&mut self, cx: &mut DialCx<'_>) -> Step {
        if cx.now < self.deadline {
            return if let State::Racing { .. } = self.state { self.race_on(cx) } else { Step::Wait };
        }
        let reason = match self.state {
            State::Racing { .. } => self.unless_proxy(CloseReason::TcpTimeout),
            State::Tunnelling { .. } => CloseReason::ProxyFailed,
            State::Securing { .. } => CloseReason::TlsTimeout,
            // Our own slowness, and no fault of the path.
            State::Loading => CloseReason::StoreStalled,
            State::Resolving | State::Done => CloseReason::DialTimeout,
        };
        self.failed(reason, format_args!("deadline passed while {:?}", self.state))
    }

    /// Takes the first attempt that is connected and starts those that are due.
    fn race_on(&mut self, cx: &mut DialCx<'_>) -> Step {
        let State::Racing { race, attempts, last_error } = &mut self.state else { return Step::Wait };
        let mut index = 0;
        while let Some(attempt) = attempts.get(index) {
            match connected(attempt) {
                Ok(true) => {
                    let socket = attempts.swap_remove(index);
                    return self.on_connected(socket, cx);
                }
                Ok(false) => index += 1,
                Err(error) => {
                    attempts.swap_remove(index);
                    race.on_failed(cx.now);
                    *last_error = Some(error);
                }
            }
        }
        while let Some(address) = race.poll_start(cx.now) {
            let started = TcpStream::connect(address).and_then(|mut socket| {
                cx.registry.register(&mut socket, cx.token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(socket)
            });
            match started {
                Ok(socket) => attempts.push(socket),
                Err(error) => {
                    race.on_failed(cx.now);
                    *last_error = Some(error);
                }
            }
        }
        if !race.is_lost() {
            return Step::Wait;
        }
        let error = last_error.take().unwrap_or_else(|| ErrorKind::AddrNotAvailable.into());
        let reason = match error.kind() {
            ErrorKind::ConnectionRefused => self.unless_proxy(CloseReason::TcpRefused),
            ErrorKind::TimedOut => self.unless_proxy(CloseReason::TcpTimeout),
            _ if is_fd_exhausted(&error) => CloseReason::FdExhausted,
            _ => self.unless_proxy(CloseReason::TcpUnreachable),
        };
        self.failed(reason, error)
    }

    fn on_connected(&mut self, socket: TcpStream, cx: &mut DialCx<'_>) -> Step {
        // Neither option changes what is right, only how fast trouble shows; a kernel without them still serves.
        let _ = socket.set_nodelay(true);
        let _ = socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(USER_TIMEOUT));
        let link = Box::new(Link::new(socket, None));
        match self.proxy.clone() {
            Some(proxy) => {
                let Endpoint { host, port, .. } = &cx.target.endpoint;
                let conversation = Box::new(Conversation::start(proxy, host, *port, &mut cx.buffers.out));
                self.state = State::Tunnelling { link, conversation };
                self.converse(cx)
            }
            None => self.secure(link, cx),
        }
    }

    /// The bytes to the endpoint flow: begins TLS, or is done.
    fn secure(&mut self, mut link: Box<Link>, cx: &mut DialCx<'_>) -> Step {
        let Some(connector) = &cx.target.connector else { return self.up(link) };
        let Buffers { plain, wire, .. } = &mut *cx.buffers;
        match connector.connect().and_then(|mut tls| tls.handle_input(&mut [], plain, wire).map(|_| tls)) {
            Ok(tls) => link.tls = Some(tls),
            Err(error) => return self.failed(CloseReason::TlsFailed, error),
        }
        let written = link.write(cx.buffers);
        self.state = State::Securing { link };
        match written {
            Ok(()) => Step::Securing,
            Err(error) => self.broken(CloseReason::TlsFailed, &error),
        }
    }

    /// Reads and answers until the socket is empty or the stage is over.
    fn converse(&mut self, cx: &mut DialCx<'_>) -> Step {
        loop {
            let (link, is_proxy) = match &mut self.state {
                State::Tunnelling { link, .. } => (link, true),
                State::Securing { link } => (link, false),
                _ => return Step::Wait,
            };
            let reason = if is_proxy { CloseReason::ProxyFailed } else { CloseReason::TlsFailed };
            if let Err(error) = link.write(cx.buffers) {
                return self.broken(reason, &error);
            }
            let taken = match link.read(cx.buffers) {
                Ok(taken) => taken,
                Err(ReadError(error)) => {
                    let reason = match &error {
                        rustls::Error::InvalidCertificate(_) => CloseReason::TlsCertificateInvalid,
                        _ => CloseReason::TlsFailed,
                    };
                    return self.failed(reason, error);
                }
            };
            let plain = std::mem::take(&mut cx.buffers.plain);
            let step = self.take_in(&plain, cx);
            cx.buffers.plain = plain;
            cx.buffers.plain.clear();
            match step {
                Step::Wait => {}
                step => return step,
            }
            if let Some(end) = taken.end {
                return self.failed(reason, format_args!("the connection ended: {}", end.detail));
            }
            if !taken.more {
                return self.flushed(reason, cx);
            }
        }
    }

    /// What was read, above TLS.
    fn take_in(&mut self, plain: &[u8], cx: &mut DialCx<'_>) -> Step {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Tunnelling { link, mut conversation } => {
                match conversation.handle_input(plain, &mut cx.buffers.out) {
                    Ok(None) => {
                        self.state = State::Tunnelling { link, conversation };
                        Step::Wait
                    }
                    Ok(Some(rest)) if rest.is_empty() => self.secure(link, cx),
                    // Neither TLS nor HTTP lets the server speak first.
                    Ok(Some(_)) => self.failed(CloseReason::ProxyFailed, "bytes came before we sent any"),
                    Err(error) => {
                        let closed = Closed::new(error.reason, Phase::Dialling).with_code(error.code);
                        Step::Failed(closed.with_detail(error.detail))
                    }
                }
            }
            State::Securing { mut link } => {
                let open = link.tls.as_ref().is_none_or(|tls| tls.is_open());
                if !open {
                    self.state = State::Securing { link };
                    return Step::Wait;
                }
                match link.write(cx.buffers) {
                    Ok(()) => self.up(link),
                    Err(error) => self.broken(CloseReason::TlsFailed, &error),
                }
            }
            state => {
                self.state = state;
                Step::Wait
            }
        }
    }

    /// The socket is empty: sends what the last bytes asked for.
    fn flushed(&mut self, reason: CloseReason, cx: &mut DialCx<'_>) -> Step {
        let (State::Tunnelling { link, .. } | State::Securing { link }) = &mut self.state else {
            return Step::Wait;
        };
        match link.write(cx.buffers) {
            Ok(()) => Step::Wait,
            Err(error) => self.broken(reason, &error),
        }
    }

    fn up(&mut self, link: Box<Link>) -> Step {
        self.state = State::Done;
        match self.who.take() {
            Some(who) => Step::Up(link, who),
            None => self.failed(CloseReason::DeviceMissing, "the device was not loaded"),
        }
    }

    fn unless_proxy(&self, reason: CloseReason) -> CloseReason {
        if self.proxy.is_some() { CloseReason::ProxyFailed } else { reason }
    }

    fn broken(&self, reason: CloseReason, error: &WriteError) -> Step {
        match error {
            WriteError::Ended(end) => {
                self.failed(reason, format_args!("the connection ended: {}", end.detail))
            }
            WriteError::Stalled => self.failed(reason, "the peer does not read"),
        }
    }

    fn failed(&self, reason: CloseReason, detail: impl std::fmt::Display) -> Step {
        Step::Failed(Closed::new(reason, self.phase()).with_detail(detail))
    }
}

/// Whether a connecting socket is connected; the error when it failed.
fn connected(socket: &TcpStream) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_fd_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::MFILE.raw_os_error())
        || code == Some(rustix::io::Errno::NFILE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::sync::Arc;

    /// Gives `addresses` to a dial of `url` that waits for them.
    fn resolved(url: &str, addresses: &[&str]) -> Step {
        let poll = mio::Poll::new().expect("epoll");
        let target = Target { endpoint: Endpoint::parse(url).expect("an endpoint"), connector: None };
        let mut dial = Dial::new([2, 3000, 1], false, false, None, Instant::from_micros(u64::MAX));
        dial.state = State::Resolving;
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let mut cx = DialCx {
            now: Instant::default(),
            target: &target,
            registry: poll.registry(),
            token: Token(0),
            buffers: &mut Buffers::default(),
        };
        dial.on_resolved(&Ok(Arc::from(addresses)), &mut cx)
    }

    #[test]
    fn plain_websockets_do_not_leave_the_machine_even_when_localhost_resolves_elsewhere() {
        for addresses in [&["192.0.2.1"][..], &["127.0.0.1", "192.0.2.1"]] {
            let Step::Failed(closed) = resolved("ws://localhost:9/", addresses) else {
                panic!("{addresses:?} dialled")
            };
            assert_eq!(closed.reason, CloseReason::ResolveFailed);
        }
        assert!(!matches!(resolved("ws://localhost:9/", &["127.0.0.1"]), Step::Failed(closed)
            if closed.reason == CloseReason::ResolveFailed));
    }

    #[test]
    fn a_name_without_addresses_is_resolve_failed() {
        let Step::Failed(closed) = resolved("ws://localhost:9/", &[]) else { panic!("dialled") };
        assert_eq!(closed.reason, CloseReason::ResolveFailed);
    }
}
