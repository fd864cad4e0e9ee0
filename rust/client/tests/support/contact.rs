//! A contact of the client's: the other side of its Signal sessions.

use runner_client::DeviceKeys;
use runner_proto::{
    jid::Jid,
    node::{AttrValue, Node, NodeContent},
};
use runner_signal::{
    Bundle, Identity, KeyPair, PreKey, PreKeySignalMessage, PublicKey, Record, SignalMessage, SignedPreKey,
    group,
    session::{self, MessageKind, NamedPreKeys},
};

/// One device of a contact.
pub struct Contact {
    pub jid: Jid,
    identity: Identity,
    signed_pre_key: SignedPreKey,
    session: Option<Record>,
    sender_key: Option<Record>,
    seed: u64,
}

impl Contact {
    pub fn new(jid: &str, seed: u8) -> Self {
        let identity = Identity::new(KeyPair::from_secret([seed; 32]), u32::from(seed));
        let signed_pre_key = SignedPreKey::generate(&identity, 7, &mut |bytes| bytes.fill(seed ^ 0x55));
        let (jid, seed) = (super::jid(jid), u64::from(seed) << 32);
        Self { jid, identity, signed_pre_key, session: None, sender_key: None, seed }
    }

    fn random(&mut self) -> impl FnMut(&mut [u8]) + use<> {
        self.seed += 1;
        let mut seeded = super::Seeded(self.seed);
        move |bytes| runner_proto::entropy::Entropy::fill(&mut seeded, bytes)
    }

    /// Begins a session from the client's bundle.
    pub fn begin(&mut self, keys: &DeviceKeys, pre_key: Option<&PreKey>) {
        let identity = KeyPair::from_secret(*keys.identity_secret.expose());
        let signed = KeyPair::from_secret(*keys.signed_pre_key_secret.expose());
        let bundle = Bundle {
            registration_id: keys.registration_id,
            identity: *identity.public(),
            signed_pre_key_id: keys.signed_pre_key_id,
            signed_pre_key: *signed.public(),
            signature: keys.signed_pre_key_signature,
            pre_key: pre_key.map(|key| (key.id, *key.pair.public())),
        };
        let mut random = self.random();
        let record = self.session.as_ref().map(Record::as_bytes);
        self.session =
            Some(session::start(&self.identity, record, &bundle, &mut random).expect("a good bundle"));
    }

    /// `<enc>` of a `Message`.
    pub fn enc(&mut self, message: &[u8]) -> Node {
        let mut random = self.random();
        let record = self.session.as_ref().map(Record::as_bytes);
        let sealed =
            session::encrypt(&self.identity, record, &padded(message), &mut random).expect("a session");
        self.session = Some(sealed.record);
        let kind = match sealed.message.kind {
            MessageKind::PreKey => "pkmsg",
            MessageKind::Signal => "msg",
        };
        Node::new("enc").attr("v", "2").attr("type", kind).bytes(sealed.message.bytes)
    }

    /// Reads what the client wrote.
    pub fn read(&mut self, ciphertext: &[u8]) {
        let message = SignalMessage::parse(ciphertext).expect("a message");
        let record = self.session.as_ref().map(Record::as_bytes);
        let read = session::decrypt(&self.identity, record, &message).expect("decrypts");
        self.session = Some(read.record);
    }

    /// Its keys as `<user>` of an answer to a request for bundles.
    pub fn bundle(&self) -> Node {
        Node::new("user").attr_jid("jid", self.jid.clone()).children(self.keys())
    }

    fn keys(&self) -> Vec<Node> {
        let signed = &self.signed_pre_key;
        let [_, id @ ..] = signed.id.to_be_bytes();
        vec![
            Node::new("registration").bytes(self.identity.registration_id().to_be_bytes()),
            Node::new("type").bytes([5]),
            Node::new("identity").bytes(*self.identity.public().as_bytes()),
            Node::new("skey")
                .child(Node::new("id").bytes(id))
                .child(Node::new("value").bytes(*signed.pair.public().as_bytes()))
                .child(Node::new("signature").bytes(signed.signature)),
        ]
    }

    /// A retry receipt for a message of the client's.
    pub fn retry(&self, id: &str, count: u32, error: u32, with_keys: bool) -> Node {
        let retry = Node::new("retry").attr("count", count.to_string()).attr("id", id).attr("v", "1");
        let retry = retry.attr("error", error.to_string());
        let mut keys = self.keys();
        let registration = keys.remove(0);
        let receipt = Node::new("receipt").attr("id", id).attr("type", "retry").attr("t", "1767225600");
        let receipt = receipt.attr_jid("from", self.jid.clone()).child(retry).child(registration);
        if with_keys { receipt.child(Node::new("keys").children(keys)) } else { receipt }
    }

    /// The `<enc>` for this device in a message of the client's.
    pub fn enc_for(&self, message: &Node) -> Option<Node> {
        let children = |node: &Node| match &node.content {
            NodeContent::Nodes(children) => children.clone(),
            _ => Vec::new(),
        };
        let named = |tag: &str, node: &Node| children(node).into_iter().find(|child| child.tag == tag);
        let is_ours = |to: &Node, key: &str| to.find_attr(key) == Some(&AttrValue::Jid(self.jid.clone()));
        match named("participants", message) {
            Some(fan_out) => {
                children(&fan_out).iter().find(|to| is_ours(to, "jid")).and_then(|to| named("enc", to))
            }
            None => {
                named("enc", message).filter(|_| is_ours(message, "to") || is_ours(message, "participant"))
            }
        }
    }

    /// Reads what the client wrote to this device; `None`: nothing, or it cannot be read.
    pub fn hear(&mut self, message: &Node) -> Option<Vec<u8>> {
        let enc = self.enc_for(message)?;
        let NodeContent::Bytes(bytes) = &enc.content else { return None };
        let record = self.session.as_ref().map(Record::as_bytes);
        let read = if super::peer::attr(&enc, "type") == "pkmsg" {
            let message = PreKeySignalMessage::parse(bytes).ok()?;
            let keys = NamedPreKeys { signed: Some(&self.signed_pre_key), one_time: None };
            session::decrypt_pre_key(&self.identity, record, keys, &message).ok()?
        } else {
            session::decrypt(&self.identity, record, &SignalMessage::parse(bytes).ok()?).ok()?
        };
        self.session = Some(read.record);
        let padding = usize::from(*read.plaintext.last()?);
        Some(read.plaintext[..read.plaintext.len() - padding].to_vec())
    }

    /// The device is linked anew: other keys, no sessions.
    pub fn link_anew(&mut self, seed: u8) {
        let jid = self.jid.to_string();
        *self = Self::new(&jid, seed);
    }

    pub fn has_no_session(&self) -> bool {
        self.session.is_none()
    }

    /// Its sessions are gone.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// A direct `<message>` with a text.
    pub fn message(&mut self, id: &str, text: &str) -> Node {
        let enc = self.enc(&text_message(text));
        self.stanza(id).child(enc)
    }

    /// A direct `<message>` without content.
    pub fn stanza(&self, id: &str) -> Node {
        Node::new("message")
            .attr("id", id)
            .attr_jid("from", self.jid.clone())
            .attr("type", "text")
            .attr("t", "1767225600")
    }

    /// `SenderKeyDistributionMessage` of this contact for a group, inside a `Message`.
    pub fn distribution(&mut self, group: &str) -> Vec<u8> {
        let mut random = self.random();
        let record = self.sender_key.get_or_insert_with(|| group::create(&mut random));
        let distribution = group::distribution(record.as_bytes()).expect("a key");
        field(2, &[field(1, group.as_bytes()), field(2, &distribution)].concat())
    }

    /// `<enc type=skmsg>`.
    pub fn group_enc(&mut self, message: &[u8]) -> Node {
        let mut random = self.random();
        let record = self.sender_key.as_ref().map(Record::as_bytes);
        let sealed = group::encrypt(record, &padded(message), &mut random).expect("a key");
        self.sender_key = Some(sealed.record);
        Node::new("enc").attr("v", "2").attr("type", "skmsg").bytes(sealed.message)
    }

    pub fn identity(&self) -> PublicKey {
        *self.identity.public()
    }
}

/// `Message { conversation }`.
pub fn text_message(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

/// A length-delimited field of less than 2^14 bytes.
pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut out = vec![number << 3 | 2];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        out.extend([len as u8 & 0x7f | 0x80, (len >> 7) as u8]);
    }
    out.extend(content);
    out
}

fn padded(message: &[u8]) -> Vec<u8> {
    [message, &[5; 5]].concat()
}
