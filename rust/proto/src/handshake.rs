//! The protobuf messages of the Noise handshake.
//!
//! Only the fields that the classic (not post-quantum) handshake uses; others are skipped when read.
//! Source: docs/protocol.md, "Handshake messages" and "Server certificate chain".

// The derive's accessors carry no docs of their own.
#![allow(missing_docs)]

use prost::Message;

/// What each frame of the handshake holds: exactly one of the three.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HandshakeMessage {
    /// The client's first message.
    #[prost(message, optional, tag = "2")]
    pub client_hello: Option<ClientHello>,
    /// The server's answer.
    #[prost(message, optional, tag = "3")]
    pub server_hello: Option<ServerHello>,
    /// The client's second message, in XX and XXfallback.
    #[prost(message, optional, tag = "4")]
    pub client_finish: Option<ClientFinish>,
}

/// XX: only an ephemeral key. IK: all three.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClientHello {
    /// 32 bytes.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub ephemeral: Option<Vec<u8>>,
    /// The client's static key, encrypted: 48 bytes.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub r#static: Option<Vec<u8>>,
    /// The login payload, encrypted.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub payload: Option<Vec<u8>>,
}

/// With a static key: XX or XXfallback. Without: IK accepted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServerHello {
    /// 32 bytes.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub ephemeral: Option<Vec<u8>>,
    /// The server's static key, encrypted: 48 bytes.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub r#static: Option<Vec<u8>>,
    /// The certificate chain, encrypted.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub payload: Option<Vec<u8>>,
}

/// The end of XX and XXfallback.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClientFinish {
    /// The client's static key, encrypted: 48 bytes.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub r#static: Option<Vec<u8>>,
    /// The login payload, encrypted.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub payload: Option<Vec<u8>>,
}

/// The plaintext of the server's payload: root signs intermediate, intermediate signs leaf.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CertChain {
    /// Names the server's static key.
    #[prost(message, optional, tag = "1")]
    pub leaf: Option<NoiseCertificate>,
    /// Names the key that signed the leaf.
    #[prost(message, optional, tag = "2")]
    pub intermediate: Option<NoiseCertificate>,
}

/// One certificate.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NoiseCertificate {
    /// A serialized [`CertDetails`], kept as bytes because they are what is signed.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub details: Option<Vec<u8>>,
    /// XEdDSA of `details`: 64 bytes.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub signature: Option<Vec<u8>>,
}

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CertDetails {
    /// This certificate's number.
    #[prost(uint32, optional, tag = "1")]
    pub serial: Option<u32>,
    /// The signer's number; the root's is 0.
    #[prost(uint32, optional, tag = "2")]
    pub issuer_serial: Option<u32>,
    /// An X25519 public key: 32 bytes.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub key: Option<Vec<u8>>,
    /// First second of validity, Unix time.
    #[prost(uint64, optional, tag = "4")]
    pub not_before: Option<u64>,
    /// First second after validity, Unix time.
    #[prost(uint64, optional, tag = "5")]
    pub not_after: Option<u64>,
}
