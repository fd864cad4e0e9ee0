//! The server's side of the Noise handshake: XX, IK, and IK refused by XXfallback.
//!
//! Source: docs/protocol.md, "Noise" and "Resume handshake".

use prost::Message as _;
use runner_proto::entropy::Entropy;
use runner_proto::handshake::{ClientHello, HandshakeMessage, ServerHello};
use runner_proto::noise::{KEY_LEN, KeyPair, NoiseError, Pattern, Role, SymmetricState, Transport, dh};

use super::command::HandshakeFault;

/// Why a client's handshake message is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponderError {
    /// No handshake message, or not the one whose turn it is.
    #[error("not the handshake message that is due")]
    Malformed,
    /// The cryptography says no.
    #[error(transparent)]
    Noise(#[from] NoiseError),
}

/// What a client's messages proved and said.
#[derive(Debug)]
pub(super) struct Proven {
    /// The channel from here on.
    pub(super) transport: Transport,
    /// The client's Noise static key: who it is.
    pub(super) client: [u8; KEY_LEN],
    /// The encoded `ClientPayload`.
    pub(super) payload: Vec<u8>,
    /// The pattern that was completed.
    pub(super) pattern: Pattern,
}

/// What follows the server's hello.
#[derive(Debug)]
pub(super) enum Next {
    /// The client's finish.
    Finish(AwaitFinish),
    /// Nothing: the resume was accepted.
    Done(Proven),
}

/// A responder that has sent its hello.
#[derive(Debug)]
pub(super) struct AwaitFinish {
    state: SymmetricState,
    ephemeral: KeyPair,
    pattern: Pattern,
}

/// Reads the client's hello; returns the server's (a handshake message) and what follows.
pub(super) fn answer_hello(
    message: &[u8],
    server: &KeyPair,
    chain: &[u8],
    fault: HandshakeFault,
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Next), ResponderError> {
    let hello = HandshakeMessage::decode(message)
        .ok()
        .and_then(|message| message.client_hello)
        .ok_or(ResponderError::Malformed)?;
    let client = key(hello.ephemeral.as_deref())?;
    let mut secret = [0; KEY_LEN];
    entropy.fill(&mut secret);
    let ephemeral = KeyPair::from_secret(secret);
    let resumes = hello.r#static.is_some() && fault != HandshakeFault::IkAsXx;
    if resumes && fault != HandshakeFault::RefuseIk {
        match accept_resume(&hello, &client, server, chain, &ephemeral) {
            Ok((mut reply, proven)) => {
                if fault == HandshakeFault::BreakIk {
                    reply.payload = Some(vec![0; 64]);
                }
                return Ok((encode(reply), Next::Done(proven)));
            }
            // The client used a key that is not ours: a server falls back, as it would on purpose.
            Err(ResponderError::Noise(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let pattern = if resumes { Pattern::XxFallback } else { Pattern::Xx };
    let mut state = SymmetricState::new(pattern);
    state.mix_hash(&client);
    state.mix_hash(ephemeral.public());
    state.mix_key(&*dh(&ephemeral, &client).map_err(NoiseError::from)?);
    let sealed_static = state.encrypt_and_hash(server.public())?;
    state.mix_key(&*dh(server, &client).map_err(NoiseError::from)?);
    let mut sealed_chain = state.encrypt_and_hash(chain)?;
    if fault == HandshakeFault::Undecryptable {
        sealed_chain.reverse();
    }
    let reply = ServerHello {
        ephemeral: Some(ephemeral.public().to_vec()),
        r#static: Some(sealed_static),
        payload: Some(sealed_chain),
    };
    Ok((encode(reply), Next::Finish(AwaitFinish { state, ephemeral, pattern })))
}

fn accept_resume(
    hello: &ClientHello,
    client: &[u8; KEY_LEN],
    server: &KeyPair,
    chain: &[u8],
    ephemeral: &KeyPair,
) -> Result<(ServerHello, Proven), ResponderError> {
    let (Some(sealed_static), Some(sealed_payload)) = (&hello.r#static, &hello.payload) else {
        return Err(ResponderError::Malformed);
    };
    let mut state = SymmetricState::new(Pattern::Ik);
    state.mix_hash(server.public());
    state.mix_hash(client);
    state.mix_key(&*dh(server, client).map_err(NoiseError::from)?);
    let client_static = key(Some(&state.decrypt_and_hash(sealed_static)?))?;
    state.mix_key(&*dh(server, &client_static).map_err(NoiseError::from)?);
    let payload = state.decrypt_and_hash(sealed_payload)?;
    state.mix_hash(ephemeral.public());
    state.mix_key(&*dh(ephemeral, client).map_err(NoiseError::from)?);
    state.mix_key(&*dh(ephemeral, &client_static).map_err(NoiseError::from)?);
    let reply = ServerHello {
        ephemeral: Some(ephemeral.public().to_vec()),
        r#static: None,
        payload: Some(state.encrypt_and_hash(chain)?),
    };
    let transport = state.split(Role::Responder);
    Ok((reply, Proven { transport, client: client_static, payload, pattern: Pattern::Ik }))
}

impl AwaitFinish {
    /// Reads the client's finish.
    pub(super) fn read_finish(mut self, message: &[u8]) -> Result<Proven, ResponderError> {
        let finish = HandshakeMessage::decode(message)
            .ok()
            .and_then(|message| message.client_finish)
            .ok_or(ResponderError::Malformed)?;
        let (Some(sealed_static), Some(sealed_payload)) = (&finish.r#static, &finish.payload) else {
            return Err(ResponderError::Malformed);
        };
        let client = key(Some(&self.state.decrypt_and_hash(sealed_static)?))?;
        self.state.mix_key(&*dh(&self.ephemeral, &client).map_err(NoiseError::from)?);
        let payload = self.state.decrypt_and_hash(sealed_payload)?;
        Ok(Proven { transport: self.state.split(Role::Responder), client, payload, pattern: self.pattern })
    }
}

fn encode(reply: ServerHello) -> Vec<u8> {
    HandshakeMessage { server_hello: Some(reply), ..HandshakeMessage::default() }.encode_to_vec()
}

fn key(bytes: Option<&[u8]>) -> Result<[u8; KEY_LEN], ResponderError> {
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(ResponderError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chain::{ChainFault, ServerKeys};
    use runner_proto::noise::Initiator;

    struct Counting(u8);
    impl Entropy for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    const NOW_S: u64 = 1_790_000_000;

    fn pair(byte: u8) -> KeyPair {
        KeyPair::from_secret([byte; 32])
    }

    /// Runs a handshake; returns the patterns that both sides believe in, and checks that they can talk.
    fn shake(
        resume_with: Option<[u8; 32]>,
        fault: HandshakeFault,
        chain_fault: Option<ChainFault>,
    ) -> Result<Pattern, NoiseError> {
        let keys = ServerKeys::new(1);
        let chain = keys.chain(NOW_S, chain_fault);
        let client = pair(3);
        let (initiator, hello) = match resume_with {
            Some(key) => Initiator::ik(pair(9), &client, &key, b"PAYLOAD").expect("a usable key"),
            None => Initiator::xx(pair(9)),
        };
        let server = KeyPair::from_secret(keys.noise.secret);
        let (reply, next) = answer_hello(&hello, &server, &chain, fault, &mut Counting(0)).expect("hello");
        let established =
            initiator.read_server_hello(&reply, &client, b"PAYLOAD", &keys.root_public(), NOW_S)?;
        let proven = match next {
            Next::Done(proven) => proven,
            Next::Finish(wait) => wait.read_finish(&established.finish.expect("a finish")).expect("finish"),
        };
        assert_eq!(proven.client, *client.public());
        assert_eq!(proven.payload, b"PAYLOAD");
        assert_eq!(proven.pattern, established.pattern);
        let (mut ours, mut theirs) = (proven.transport, established.transport);
        let mut frame = b"hello".to_vec();
        theirs.seal(&mut frame, 0).expect("seal");
        assert_eq!(ours.open(&mut frame).expect("open"), b"hello");
        Ok(proven.pattern)
    }

    #[test]
    fn xx_ik_and_fallback_end_with_the_same_keys_on_both_sides() {
        let server = ServerKeys::new(1).noise.public;
        assert_eq!(shake(None, HandshakeFault::None, None), Ok(Pattern::Xx));
        assert_eq!(shake(Some(server), HandshakeFault::None, None), Ok(Pattern::Ik));
        assert_eq!(shake(Some(server), HandshakeFault::RefuseIk, None), Ok(Pattern::XxFallback));
        // The client resumes with the key of some other server.
        assert_eq!(shake(Some(*pair(77).public()), HandshakeFault::None, None), Ok(Pattern::XxFallback));
    }

    #[test]
    fn every_chain_fault_is_refused_by_our_client() {
        use ChainFault::*;
        for fault in
            [BadRootSignature, BadLeafSignature, Expired, NotYetValid, WrongKey, WrongIssuer, Garbage]
        {
            assert!(
                matches!(shake(None, HandshakeFault::None, Some(fault)), Err(NoiseError::Certificate(_))),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn a_broken_answer_breaks_the_handshake() {
        let server = ServerKeys::new(1).noise.public;
        for (resume, fault) in [
            (Some(server), HandshakeFault::BreakIk),
            (Some(server), HandshakeFault::IkAsXx),
            (None, HandshakeFault::Undecryptable),
        ] {
            assert!(matches!(shake(resume, fault, None), Err(NoiseError::Handshake(_))), "{fault:?}");
        }
    }
}
