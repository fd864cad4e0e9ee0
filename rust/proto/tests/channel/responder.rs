//! A Noise server for tests, built on the public `SymmetricState`, and the certificates that it shows.

use prost::Message;
use runner_proto::handshake::{
    CertChain, CertDetails, ClientFinish, ClientHello, HandshakeMessage, NoiseCertificate, ServerHello,
};
use runner_proto::noise::{KeyPair, Pattern, Role, SymmetricState, Transport, dh};

/// A second in the middle of the validity of [`Chain::new`].
pub(crate) const NOW: u64 = 1_800_000_000;

/// The secret keys of everybody in a test; any distinct bytes will do.
pub(crate) fn pair(byte: u8) -> KeyPair {
    KeyPair::from_secret([byte; 32])
}

/// What a certificate chain is made of; tests spoil one part and [`sign`](Self::sign) the rest properly.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) root: KeyPair,
    pub(crate) issuer: KeyPair,
    pub(crate) intermediate: CertDetails,
    pub(crate) leaf: CertDetails,
}

impl Chain {
    /// A chain for `server`, as the simulator of docs/protocol.md has it: serials 7 and 9, a day around now.
    pub(crate) fn new(server: &KeyPair) -> Self {
        let (root, issuer) = (pair(0x41), pair(0x42));
        let details = |serial, issuer_serial, key: &KeyPair| CertDetails {
            serial: Some(serial),
            issuer_serial: Some(issuer_serial),
            key: Some(key.public().to_vec()),
            not_before: Some(NOW - 86_400),
            not_after: Some(NOW + 86_400),
        };
        let (intermediate, leaf) = (details(7, 0, &issuer), details(9, 7, server));
        Self { root, issuer, intermediate, leaf }
    }

    pub(crate) fn sign(&self) -> CertChain {
        let certificate = |signer: &KeyPair, details: &CertDetails| {
            let details = details.encode_to_vec();
            let signature = runner_xeddsa::sign(signer.secret(), &details, &[0x5a; 64]).to_vec();
            Some(NoiseCertificate { details: Some(details), signature: Some(signature) })
        };
        CertChain {
            leaf: certificate(&self.issuer, &self.leaf),
            intermediate: certificate(&self.root, &self.intermediate),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.sign().encode_to_vec()
    }
}

/// A server's keys and certificates.
pub(crate) struct Responder {
    pub(crate) ephemeral: KeyPair,
    pub(crate) key: KeyPair,
    pub(crate) chain: Vec<u8>,
}

/// What a server knows after the last message of the client.
pub(crate) struct Accepted {
    pub(crate) client: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) transport: Transport,
}

impl Responder {
    pub(crate) fn new() -> Self {
        let key = pair(0x51);
        Self { ephemeral: pair(0x52), chain: Chain::new(&key).encode(), key }
    }

    /// Answers any hello in the shape of XX: as [`Pattern::XxFallback`] it refuses an IK hello.
    pub(crate) fn answer_xx(&self, pattern: Pattern, hello: &[u8]) -> (ServerHello, AwaitsFinish<'_>) {
        let client: [u8; 32] = client_hello(hello).ephemeral.unwrap().try_into().unwrap();
        let mut state = SymmetricState::new(pattern);
        state.mix_hash(&client);
        state.mix_hash(self.ephemeral.public());
        state.mix_key(&dh(&self.ephemeral, &client).unwrap());
        let sealed_static = state.encrypt_and_hash(self.key.public()).unwrap();
        state.mix_key(&dh(&self.key, &client).unwrap());
        let payload = state.encrypt_and_hash(&self.chain).unwrap();
        let hello = ServerHello {
            ephemeral: Some(self.ephemeral.public().to_vec()),
            r#static: Some(sealed_static),
            payload: Some(payload),
        };
        (hello, AwaitsFinish { state, ephemeral: &self.ephemeral })
    }

    /// Accepts an IK hello.
    pub(crate) fn answer_ik(&self, hello: &[u8]) -> (ServerHello, Accepted) {
        let hello = client_hello(hello);
        let client_ephemeral: [u8; 32] = hello.ephemeral.unwrap().try_into().unwrap();
        let mut state = SymmetricState::new(Pattern::Ik);
        state.mix_hash(self.key.public());
        state.mix_hash(&client_ephemeral);
        state.mix_key(&dh(&self.key, &client_ephemeral).unwrap());
        let client = state.decrypt_and_hash(&hello.r#static.unwrap()).unwrap();
        let client_static: [u8; 32] = client.clone().try_into().unwrap();
        state.mix_key(&dh(&self.key, &client_static).unwrap());
        let payload = state.decrypt_and_hash(&hello.payload.unwrap()).unwrap();

        state.mix_hash(self.ephemeral.public());
        state.mix_key(&dh(&self.ephemeral, &client_ephemeral).unwrap());
        state.mix_key(&dh(&self.ephemeral, &client_static).unwrap());
        let sealed = state.encrypt_and_hash(&self.chain).unwrap();
        let hello = ServerHello {
            ephemeral: Some(self.ephemeral.public().to_vec()),
            r#static: None,
            payload: Some(sealed),
        };
        (hello, Accepted { client, payload, transport: state.split(Role::Responder) })
    }
}

/// A server that waits for the client's finish.
pub(crate) struct AwaitsFinish<'a> {
    state: SymmetricState,
    ephemeral: &'a KeyPair,
}

impl AwaitsFinish<'_> {
    pub(crate) fn read(mut self, finish: &[u8]) -> Accepted {
        let message = HandshakeMessage::decode(finish).unwrap();
        let ClientFinish { r#static, payload } = message.client_finish.unwrap();
        let client = self.state.decrypt_and_hash(&r#static.unwrap()).unwrap();
        let client_static: [u8; 32] = client.clone().try_into().unwrap();
        self.state.mix_key(&dh(self.ephemeral, &client_static).unwrap());
        let payload = self.state.decrypt_and_hash(&payload.unwrap()).unwrap();
        Accepted { client, payload, transport: self.state.split(Role::Responder) }
    }
}

pub(crate) fn client_hello(message: &[u8]) -> ClientHello {
    HandshakeMessage::decode(message).unwrap().client_hello.unwrap()
}

pub(crate) fn encode(hello: ServerHello) -> Vec<u8> {
    HandshakeMessage { server_hello: Some(hello), ..HandshakeMessage::default() }.encode_to_vec()
}
