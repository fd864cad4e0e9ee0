//! A contact of the client's: the other side of its Signal sessions.

use runner_client::DeviceKeys;
use runner_proto::{jid::Jid, node::Node};
use runner_signal::{
    Bundle, Identity, KeyPair, PreKey, PublicKey, Record, group,
    session::{self, MessageKind},
};

/// One device of a contact.
pub struct Contact {
    pub jid: Jid,
    identity: Identity,
    session: Option<Record>,
    sender_key: Option<Record>,
    seed: u64,
}

impl Contact {
    pub fn new(jid: &str, seed: u8) -> Self {
        let identity = Identity::new(KeyPair::from_secret([seed; 32]), u32::from(seed));
        Self { jid: super::jid(jid), identity, session: None, sender_key: None, seed: u64::from(seed) << 32 }
    }

    fn random(&mut self) -> impl FnMut(&mut [u8]) + use<> {
        self.seed += 1;
        let mut seeded = super::Seeded(self.seed);
        move |bytes| runner_proto::entropy::Entropy::fill(&mut seeded, bytes)
    }

    /// Begins a session from the client's bundle.
    pub fn begin(&mut self, keys: &DeviceKeys, pre_key: Option<&PreKey>) {
        let identity = KeyPair::from_secret(keys.identity_secret);
        let signed = KeyPair::from_secret(keys.signed_pre_key_secret);
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
        let message = runner_signal::SignalMessage::parse(ciphertext).expect("a message");
        let record = self.session.as_ref().map(Record::as_bytes);
        let read = session::decrypt(&self.identity, record, &message).expect("decrypts");
        self.session = Some(read.record);
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
