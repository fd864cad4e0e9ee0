//! What the server and the sender are told of a message. docs/protocol.md, "Answers" and "Messages".

use runner_proto::{
    answer,
    jid::Jid,
    node::{NodeRef, Writer},
};
use runner_signal::{Identity, KeyPair, PreKey, SignedPreKey};

use super::{failure::Failure, open::OwnKeys};

/// How often a message is asked for, over all connections. docs/protocol.md, "Messages".
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// From which attempt on the sender gets new keys: the first failure may be a message that came too early.
pub(super) const KEYS_FROM_ATTEMPT: u32 = 2;

/// The attributes of a message that its receipts repeat.
const REPEATED: [&str; 2] = ["participant", "recipient"];

/// What a delivery receipt says beside "delivered".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiptKind {
    /// The user is shown as online.
    Delivered,
    /// It is not.
    Inactive,
    /// An own other device sent the message.
    Sender,
    /// Between own devices.
    Peer,
}

impl ReceiptKind {
    const fn slug(self) -> Option<&'static str> {
        match self {
            Self::Delivered => None,
            Self::Inactive => Some("inactive"),
            Self::Sender => Some("sender"),
            Self::Peer => Some("peer_msg"),
        }
    }
}

/// The encoded `<receipt>` of a message: it is terminal, no ack follows.
pub(super) fn receipt(message: NodeRef<'_>, kind: ReceiptKind) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    let kind = kind.slug();
    write_receipt(&mut Writer::new(&mut out), message, kind, &[], false);
    out
}

/// The encoded `<ack>` of a message without content.
pub(super) fn failure_ack(message: NodeRef<'_>, own: &Jid, failure: Failure) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    answer::write_ack(&mut Writer::new(&mut out), message, Some(own), failure.ack_error());
    out
}

/// The encoded retry receipt: the sender is asked for the message again. Not terminal.
///
/// `pre_key` is a new one, for the sender to begin anew with.
pub(super) fn retry_receipt(
    message: NodeRef<'_>,
    failure: Failure,
    attempt: u32,
    keys: &OwnKeys,
    pre_key: Option<&PreKey>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(if pre_key.is_some() { 640 } else { 160 });
    let writer = &mut Writer::new(&mut out);
    let is_peer = message.attr("category").is_some_and(|category| category == *"peer");
    let more: &[(&str, &str)] = if is_peer { &[("category", "peer")] } else { &[] };
    write_receipt(writer, message, Some("retry"), more, true);
    writer.children(2 + usize::from(pre_key.is_some()));
    let (id, t) = (message.attr("id"), message.attr("t"));
    writer.node("retry", 3 + usize::from(id.is_some()) + usize::from(t.is_some()), false);
    writer.attr_u64("count", u64::from(attempt));
    if let Some(id) = id {
        writer.attr_value("id", id);
    }
    if let Some(t) = t {
        writer.attr_value("t", t);
    }
    writer.attr("v", "1");
    writer.attr_u64("error", u64::from(failure.retry_reason().unwrap_or_default()));
    write_registration(writer, &keys.identity);
    if let Some(pre_key) = pre_key {
        writer.node("keys", 0, true);
        writer.children(4 + usize::from(keys.account.is_some()));
        write_identity(writer, &keys.identity);
        write_key(writer, "key", pre_key.id, &pre_key.pair, None);
        write_signed_pre_key(writer, keys.current());
        if let Some(account) = &keys.account {
            writer.node("device-identity", 0, true);
            writer.bytes(account);
        }
    }
    out
}

fn write_receipt(
    writer: &mut Writer<'_>,
    message: NodeRef<'_>,
    kind: Option<&str>,
    more: &[(&str, &str)],
    has_children: bool,
) {
    let (Some(id), Some(from)) = (message.attr("id"), message.attr("from")) else { return };
    let repeated = REPEATED.map(|key| message.attr(key).map(|value| (key, value)));
    let attrs = 2 + repeated.iter().flatten().count() + usize::from(kind.is_some()) + more.len();
    writer.node("receipt", attrs, has_children);
    writer.attr_value("id", id);
    writer.attr_value("to", from);
    for (key, value) in repeated.into_iter().flatten() {
        writer.attr_value(key, value);
    }
    if let Some(kind) = kind {
        writer.attr("type", kind);
    }
    for (key, value) in more {
        writer.attr(key, value);
    }
}

/// `<registration>`: four bytes.
pub(crate) fn write_registration(writer: &mut Writer<'_>, identity: &Identity) {
    writer.node("registration", 0, true);
    writer.bytes(&identity.registration_id().to_be_bytes());
}

/// `<type>` and `<identity>`: two nodes.
pub(crate) fn write_identity(writer: &mut Writer<'_>, identity: &Identity) {
    writer.node("type", 0, true);
    writer.bytes(&[5]);
    writer.node("identity", 0, true);
    writer.bytes(identity.public().as_bytes());
}

/// `<skey>`.
pub(crate) fn write_signed_pre_key(writer: &mut Writer<'_>, key: &SignedPreKey) {
    write_key(writer, "skey", key.id, &key.pair, Some(&key.signature));
}

/// `<key>` or `<skey>`: the id in three bytes, the public key, its signature.
pub(crate) fn write_key(
    writer: &mut Writer<'_>,
    tag: &str,
    id: u32,
    pair: &KeyPair,
    signature: Option<&[u8; 64]>,
) {
    writer.node(tag, 0, true);
    writer.children(2 + usize::from(signature.is_some()));
    writer.node("id", 0, true);
    let [_, id @ ..] = id.to_be_bytes();
    writer.bytes(&id);
    writer.node("value", 0, true);
    writer.bytes(pair.public().as_bytes());
    if let Some(signature) = signature {
        writer.node("signature", 0, true);
        writer.bytes(signature);
    }
}
