//! The client's side of XX, IK and XXfallback.

use prost::Message;

use super::{
    HandshakeError, KEY_LEN, KeyPair, NoiseError, Pattern, Role, SymmetricState, TAG_LEN, Transport, dh,
};
use crate::cert::{self, CertError, VerifiedChain};
use crate::handshake::{ClientFinish, ClientHello, HandshakeMessage, ServerHello};

/// A handshake whose hello is on its way, and which waits for the server's.
///
/// The answer decides the pattern: after an IK hello a server hello without a static key accepts the
/// resume, and one with a static key falls back to XX, which begins anew as XXfallback with the
/// ephemeral key already sent.
#[derive(Debug)]
pub struct Initiator {
    state: SymmetricState,
    ephemeral: KeyPair,
    /// What the hello asked for: [`Pattern::Xx`] or [`Pattern::Ik`].
    asked: Pattern,
}

/// What a finished handshake leaves.
#[derive(Debug)]
pub struct Established {
    /// The message still to be sent, in a frame of its own, before the transport's first. None after IK.
    pub finish: Option<Vec<u8>>,
    /// The cipher of everything after that.
    pub transport: Transport,
    /// The server's certificates; None after IK, where the server proved that it holds the cached key.
    pub chain: Option<VerifiedChain>,
    /// The pattern that was completed.
    pub pattern: Pattern,
}

impl Initiator {
    /// Begins XX; returns the hello to send.
    #[must_use]
    pub fn xx(ephemeral: KeyPair) -> (Self, Vec<u8>) {
        let mut state = SymmetricState::new(Pattern::Xx);
        state.mix_hash(ephemeral.public());
        let hello = hello(ClientHello {
            ephemeral: Some(ephemeral.public().to_vec()),
            r#static: None,
            payload: None,
        });
        (Self { state, ephemeral, asked: Pattern::Xx }, hello)
    }

    /// Begins IK with the server's key of an earlier connection; returns the hello to send.
    ///
    /// The hello carries `payload`. It is encrypted to `server_key`, but whoever recorded it can send it
    /// again, as with any first flight.
    ///
    /// # Errors
    /// [`HandshakeError::CachedKey`] when `server_key` is of small order; drop it and use XX.
    pub fn ik(
        ephemeral: KeyPair,
        client: &KeyPair,
        server_key: &[u8; KEY_LEN],
        payload: &[u8],
    ) -> Result<(Self, Vec<u8>), NoiseError> {
        let shared = |pair: &KeyPair| dh(pair, server_key).map_err(|_| HandshakeError::CachedKey);
        let mut state = SymmetricState::new(Pattern::Ik);
        state.mix_hash(server_key);
        state.mix_hash(ephemeral.public());
        state.mix_key(&*shared(&ephemeral)?);
        let sealed_static = state.encrypt_and_hash(client.public())?;
        state.mix_key(&*shared(client)?);
        let sealed_payload = state.encrypt_and_hash(payload)?;
        let hello = hello(ClientHello {
            ephemeral: Some(ephemeral.public().to_vec()),
            r#static: Some(sealed_static),
            payload: Some(sealed_payload),
        });
        Ok((Self { state, ephemeral, asked: Pattern::Ik }, hello))
    }

    /// What the hello asked for: [`Pattern::Xx`] or [`Pattern::Ik`].
    #[must_use]
    pub const fn asked(&self) -> Pattern {
        self.asked
    }

    /// Reads the server's hello and finishes.
    ///
    /// `client`, and `payload` after XX, are what the hello of an IK already carried. `root` and
    /// `now_unix_s` (Unix seconds) judge the certificate chain, see [`cert::verify`].
    ///
    /// # Errors
    /// [`NoiseError::Handshake`] when the answer does not fit what was asked, which after IK says no
    /// more than that this server cannot resume: a server that does not know IK answers as if it had
    /// read an XX hello. [`NoiseError::Certificate`] when the server is not who it should be.
    pub fn read_server_hello(
        self,
        message: &[u8],
        client: &KeyPair,
        payload: &[u8],
        root: &[u8; KEY_LEN],
        now_unix_s: u64,
    ) -> Result<Established, NoiseError> {
        let verify = |chain: &[u8], key: &[u8; KEY_LEN]| cert::verify(chain, root, key, now_unix_s);
        self.read(message, &Context { client, payload, verify: &verify })
    }

    /// [`read_server_hello`](Self::read_server_hello) with the judgement of certificates as an argument.
    pub(super) fn read(self, message: &[u8], context: &Context<'_>) -> Result<Established, NoiseError> {
        let answer = Answer::parse(message)?;
        match (self.asked, &answer.sealed_static) {
            (Pattern::Ik, None) => self.resume(&answer, context),
            (Pattern::Ik, Some(sealed_static)) => {
                let mut state = SymmetricState::new(Pattern::XxFallback);
                state.mix_hash(self.ephemeral.public());
                Self { state, ..self }.finish(Pattern::XxFallback, &answer, sealed_static, context)
            }
            (asked, Some(sealed_static)) => self.finish(asked, &answer, sealed_static, context),
            (_, None) => Err(HandshakeError::StaticMissing.into()),
        }
    }

    /// IK from the server's hello on: `e, ee, se`, and a payload whose content says nothing new.
    fn resume(mut self, answer: &Answer, context: &Context<'_>) -> Result<Established, NoiseError> {
        self.state.mix_hash(&answer.ephemeral);
        self.state.mix_key(&*dh(&self.ephemeral, &answer.ephemeral)?);
        self.state.mix_key(&*dh(context.client, &answer.ephemeral)?);
        self.state.decrypt_and_hash(&answer.sealed_payload).map_err(|_| HandshakeError::PayloadTag)?;
        Ok(Established {
            finish: None,
            transport: self.state.split(Role::Initiator),
            chain: None,
            pattern: Pattern::Ik,
        })
    }

    /// XX and XXfallback from the server's hello on: `e, ee, s, es`, then our `s, se`.
    fn finish(
        mut self,
        pattern: Pattern,
        answer: &Answer,
        sealed_static: &[u8],
        context: &Context<'_>,
    ) -> Result<Established, NoiseError> {
        let state = &mut self.state;
        state.mix_hash(&answer.ephemeral);
        state.mix_key(&*dh(&self.ephemeral, &answer.ephemeral)?);
        let server_static = state.decrypt_and_hash(sealed_static).map_err(|_| HandshakeError::StaticTag)?;
        let server_static = server_static.try_into().map_err(|_| HandshakeError::StaticLength)?;
        state.mix_key(&*dh(&self.ephemeral, &server_static)?);
        let chain = state.decrypt_and_hash(&answer.sealed_payload).map_err(|_| HandshakeError::PayloadTag)?;
        let chain = (context.verify)(&chain, &server_static)?;

        let sealed_static = state.encrypt_and_hash(context.client.public())?;
        state.mix_key(&*dh(context.client, &answer.ephemeral)?);
        let sealed_payload = state.encrypt_and_hash(context.payload)?;
        let finish = HandshakeMessage {
            client_finish: Some(ClientFinish {
                r#static: Some(sealed_static),
                payload: Some(sealed_payload),
            }),
            ..HandshakeMessage::default()
        };
        Ok(Established {
            finish: Some(finish.encode_to_vec()),
            transport: self.state.split(Role::Initiator),
            chain: Some(chain),
            pattern,
        })
    }
}

/// What the caller knows and the server's hello does not say.
pub(super) struct Context<'a> {
    pub(super) client: &'a KeyPair,
    pub(super) payload: &'a [u8],
    pub(super) verify: &'a Verify<'a>,
}

/// Judges a certificate chain for a static key.
type Verify<'a> = dyn Fn(&[u8], &[u8; KEY_LEN]) -> Result<VerifiedChain, CertError> + 'a;

/// A server hello with the lengths checked.
struct Answer {
    ephemeral: [u8; KEY_LEN],
    /// `KEY_LEN + TAG_LEN` bytes. None accepts a resume.
    sealed_static: Option<Vec<u8>>,
    sealed_payload: Vec<u8>,
}

impl Answer {
    fn parse(message: &[u8]) -> Result<Self, HandshakeError> {
        let message = HandshakeMessage::decode(message).map_err(|_| HandshakeError::Malformed)?;
        let ServerHello { ephemeral, r#static, payload } =
            message.server_hello.ok_or(HandshakeError::NotServerHello)?;
        let ephemeral = ephemeral
            .and_then(|ephemeral| ephemeral.try_into().ok())
            .ok_or(HandshakeError::EphemeralLength)?;
        if r#static.as_ref().is_some_and(|sealed| sealed.len() != KEY_LEN + TAG_LEN) {
            return Err(HandshakeError::StaticLength);
        }
        let sealed_payload = payload.ok_or(HandshakeError::PayloadMissing)?;
        Ok(Self { ephemeral, sealed_static: r#static, sealed_payload })
    }
}

fn hello(hello: ClientHello) -> Vec<u8> {
    HandshakeMessage { client_hello: Some(hello), ..HandshakeMessage::default() }.encode_to_vec()
}
