//! The way to an open channel: WebSocket upgrade, then the Noise handshake.

use super::{Channel, Event, Identity, Input, Io, Session};
use crate::{
    cert::{CachedServerKey, CertError, VerifiedChain},
    close_reason::{CloseReason, Closed},
    frame,
    iq::Ids,
    keepalive::Clock,
    noise::{Initiator, KeyPair, NoiseError, Pattern, Transport},
    phase::Phase,
    ws::{UpgradeError, UpgradeRequest, UpgradeResponse},
};

/// What is needed only until the channel is open.
#[derive(Debug)]
pub(super) struct Opening {
    identity: Identity,
    upgrade: Option<UpgradeResponse>,
    handshake: Option<Initiator>,
}

/// An open channel, for whoever keeps server keys.
#[derive(Debug)]
pub struct Secured {
    /// How it was made.
    pub pattern: Pattern,
    /// The server's certificates; none after IK.
    pub chain: Option<VerifiedChain>,
}

impl Opening {
    pub(super) const fn new(identity: Identity) -> Self {
        Self { identity, upgrade: None, handshake: None }
    }

    /// Whether an IK hello is out and unanswered.
    pub(super) fn asks_resume(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.asked() == Pattern::Ik)
    }

    /// Begins the handshake; returns the hello.
    fn hello(&mut self, ephemeral: KeyPair, unix_s: u64) -> Vec<u8> {
        let identity = &self.identity;
        let usable = identity.server_key.filter(|cached: &CachedServerKey| cached.is_usable(unix_s));
        // A cached key that is no key at all is as good as none: XX brings a new one.
        let resumed = usable.and_then(|cached| {
            Initiator::ik(ephemeral.clone(), &identity.noise, &cached.key, &identity.payload).ok()
        });
        let (handshake, hello) = resumed.unwrap_or_else(|| Initiator::xx(ephemeral));
        self.handshake = Some(handshake);
        hello
    }
}

impl Session {
    /// The same with its handshake already over: fuzzing begins behind it.
    #[doc(hidden)]
    #[must_use]
    pub fn opened(mut self, transport: Transport, io: &mut Io<'_>) -> Self {
        self.ids = Ids::new(io.entropy);
        self.begin_login(transport, Pattern::Xx, io);
        self
    }

    fn begin_login(&mut self, transport: Transport, pattern: Pattern, io: &mut Io<'_>) {
        self.channel = Channel::Open { transport, pattern };
        self.phase = Phase::Authenticating;
        self.deadline = Some(io.now + self.config.login_timeout);
        let mut clock = Clock::new(&self.config.keepalive, io.now, io.entropy);
        clock.on_send(io.now);
        self.clock = Some(clock);
    }

    pub(super) fn begin_upgrade(&mut self, io: &mut Io<'_>) {
        let Channel::Opening(opening) = &mut self.channel else { return };
        let mut key = [0; 16];
        io.entropy.fill(&mut key);
        opening.upgrade = Some(UpgradeResponse::new(key));
        let config = &self.config;
        let request = UpgradeRequest {
            host: &config.host,
            path: &config.path,
            origin: &config.origin,
            key,
            extra: &[],
        };
        let start = io.out.len();
        match request.write(io.out) {
            Ok(()) => self.counters.bytes_sent += (io.out.len() - start) as u64,
            Err(error) => {
                self.finish(Closed::new(CloseReason::UpgradeInvalid, self.phase).with_detail(error), io)
            }
        }
    }

    /// Reads the answer to the upgrade; then the handshake begins.
    pub(super) fn poll_upgrade(&mut self, input: &mut Input<'_>, io: &mut Io<'_>) {
        let Channel::Opening(opening) = &mut self.channel else { return };
        let Some(upgrade) = &mut opening.upgrade else { return };
        match upgrade.read(&mut input.raw) {
            Ok(false) => {}
            Ok(true) => {
                opening.upgrade = None;
                let mut secret = [0; 32];
                io.entropy.fill(&mut secret);
                let hello = opening.hello(KeyPair::from_secret(secret), io.unix_ms / 1000);
                let routing_info = opening.identity.routing_info.take();
                self.phase = Phase::Handshaking;
                self.deadline = Some(io.now + self.config.handshake_timeout);
                self.send_message(io, |out| {
                    frame::write_intro(out, routing_info.as_deref());
                    frame::write(out, &hello)
                });
            }
            Err(error) => {
                let (reason, code) = match &error {
                    UpgradeError::Refused { status } => {
                        (CloseReason::UpgradeRefused, Some(u32::from(*status)))
                    }
                    UpgradeError::Invalid(_) => (CloseReason::UpgradeInvalid, None),
                };
                self.finish(Closed::new(reason, self.phase).with_code(code).with_detail(error), io);
            }
        }
    }

    /// Reads the server's hello; then the channel is open and the login on its way.
    pub(super) fn on_server_hello<'e>(&mut self, message: &[u8], io: &mut Io<'_>) -> Event<'e> {
        let Channel::Opening(opening) = &mut self.channel else { return Event::Handled };
        let Some(handshake) = opening.handshake.take() else { return Event::Handled };
        let asked = handshake.asked();
        let result = handshake.read_server_hello(
            message,
            &opening.identity.noise,
            &opening.identity.payload,
            &self.config.root_key,
            io.unix_ms / 1000,
        );
        let established = match result {
            Ok(established) => established,
            Err(error) => {
                self.finish(Closed::new(reason(asked, error), self.phase).with_detail(error), io);
                return Event::Handled;
            }
        };
        if let Some(finish) = established.finish {
            self.send_message(io, |out| frame::write(out, &finish));
        }
        self.begin_login(established.transport, established.pattern, io);
        Event::Secured(Secured { pattern: established.pattern, chain: established.chain })
    }
}

fn reason(asked: Pattern, error: NoiseError) -> CloseReason {
    match error {
        NoiseError::Certificate(CertError::Expired(_) | CertError::NotYetValid(_)) => {
            CloseReason::CertificateExpired
        }
        NoiseError::Certificate(_) => CloseReason::CertificateInvalid,
        _ if asked == Pattern::Ik => CloseReason::ResumeFailed,
        _ => CloseReason::HandshakeFailed,
    }
}
