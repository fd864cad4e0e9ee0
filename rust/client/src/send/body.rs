//! What is encrypted: the protobuf of a text, its wrapping for our own devices, the padding. docs/protocol.md, "Messages".

use runner_proto::{entropy::Entropy, jid::Jid};

use super::Quoted;
use crate::{
    content::{Kind, View},
    protobuf,
};

/// Longest quoted message that goes along, bytes; of a longer one only the name does.
const MAX_QUOTED: usize = 64 * 1024;

/// Field numbers of `Message` and what is in it.
mod field {
    pub(super) const CONVERSATION: u32 = 1;
    pub(super) const KEY_DISTRIBUTION: u32 = 2;
    pub(super) const EXTENDED_TEXT: u32 = 6;
    pub(super) const DEVICE_SENT: u32 = 31;
    /// Of `ExtendedTextMessage`.
    pub(super) const TEXT: u32 = 1;
    pub(super) const CONTEXT: u32 = 17;
    /// Of `ContextInfo`.
    pub(super) const STANZA_ID: u32 = 1;
    pub(super) const PARTICIPANT: u32 = 2;
    pub(super) const QUOTED: u32 = 3;
    /// Of `SenderKeyDistributionMessage`.
    pub(super) const GROUP: u32 = 1;
    pub(super) const KEY: u32 = 2;
    /// Of `DeviceSentMessage`.
    pub(super) const DESTINATION: u32 = 1;
    pub(super) const MESSAGE: u32 = 2;
}

/// A `Message` with a text.
pub(super) fn text(text: &str, quoted: Option<&Quoted>) -> Vec<u8> {
    let mut message = Vec::with_capacity(text.len() + 16);
    let Some(quoted) = quoted else {
        protobuf::write_bytes(&mut message, field::CONVERSATION, text.as_bytes());
        return message;
    };
    let mut context = Vec::new();
    protobuf::write_bytes(&mut context, field::STANZA_ID, quoted.id.as_bytes());
    let sender = quoted.sender.to_non_ad().to_string();
    protobuf::write_bytes(&mut context, field::PARTICIPANT, sender.as_bytes());
    if let Some(content) = shown(&quoted.content) {
        protobuf::write_bytes(&mut context, field::QUOTED, &content);
    }
    let mut extended = Vec::with_capacity(text.len() + context.len() + 16);
    protobuf::write_bytes(&mut extended, field::TEXT, text.as_bytes());
    protobuf::write_bytes(&mut extended, field::CONTEXT, &context);
    protobuf::write_bytes(&mut message, field::EXTENDED_TEXT, &extended);
    message
}

/// What is shown of a quoted message. Of a text its words, without what it quoted itself: a talk of quotes would
/// otherwise grow with each turn.
fn shown(content: &[u8]) -> Option<Vec<u8>> {
    let view = View::read(content).ok()?;
    let shown = match (view.kind, view.text) {
        (Kind::Text, Some(words)) => text(words, None),
        _ if view.destination.is_some() => {
            let sent = protobuf::find(content, field::DEVICE_SENT).ok()??.bytes()?;
            protobuf::find(sent, field::MESSAGE).ok()??.bytes()?.to_vec()
        }
        _ => content.to_vec(),
    };
    (shown.len() <= MAX_QUOTED).then_some(shown)
}

/// A `Message` as our own other devices get it: with the chat that it went to.
pub(super) fn device_sent(chat: &Jid, message: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(message.len() + 64);
    protobuf::write_bytes(&mut sent, field::DESTINATION, chat.to_string().as_bytes());
    protobuf::write_bytes(&mut sent, field::MESSAGE, message);
    let mut wrapped = Vec::with_capacity(sent.len() + 8);
    protobuf::write_bytes(&mut wrapped, field::DEVICE_SENT, &sent);
    wrapped
}

/// A `Message` that brings our sender key of a group. A message behind it makes one of both.
pub(super) fn key_distribution(group: &Jid, key: &[u8]) -> Vec<u8> {
    let mut distribution = Vec::with_capacity(key.len() + 64);
    protobuf::write_bytes(&mut distribution, field::GROUP, group.to_string().as_bytes());
    protobuf::write_bytes(&mut distribution, field::KEY, key);
    let mut message = Vec::with_capacity(distribution.len() + 8);
    protobuf::write_bytes(&mut message, field::KEY_DISTRIBUTION, &distribution);
    message
}

/// N bytes of value N behind it, N of 1 to 16.
pub(super) fn padded(message: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
    let count = (entropy.u32() & 15) as u8 + 1;
    let mut padded = Vec::with_capacity(message.len() + 16);
    padded.extend_from_slice(message);
    padded.resize(message.len() + usize::from(count), count);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content;

    fn quoted(content: Vec<u8>) -> Quoted {
        let sender = "15550002222:3@s.whatsapp.net".parse().expect("a jid");
        Quoted { id: "A".into(), sender, content }
    }

    #[test]
    fn a_text_and_a_reply_are_read_as_what_they_are() {
        let plain = text("hello", None);
        assert_eq!(plain, b"\x0a\x05hello");
        let reply = text("yes", Some(&quoted(text("are you there?", None))));
        let view = View::read(&reply).expect("a message");
        assert_eq!((view.kind, view.text), (Kind::Text, Some("yes")));
        let key = view.quoted.expect("a quote");
        assert_eq!((key.id, key.participant), (Some("A"), Some("15550002222@s.whatsapp.net")));
        let wrapped = device_sent(&"15550002222@s.whatsapp.net".parse().expect("a jid"), &reply);
        let view = View::read(&wrapped).expect("a message");
        assert_eq!((view.text, view.destination), (Some("yes"), Some("15550002222@s.whatsapp.net")));
    }

    #[test]
    fn a_sender_key_comes_alone_or_with_a_text() {
        let group = "123@g.us".parse().expect("a jid");
        let alone = key_distribution(&group, b"key");
        assert_eq!(content::key_distribution(&alone), Ok(Some(("123@g.us", &b"key"[..]))));
        assert_eq!(content::has_more(&alone), Ok(false));
        let both = [alone, text("hello", None)].concat();
        assert_eq!(content::key_distribution(&both), Ok(Some(("123@g.us", &b"key"[..]))));
        assert_eq!(View::read(&both).expect("a message").text, Some("hello"));
    }

    #[test]
    fn a_quote_of_a_quote_does_not_grow() {
        let mut message = text("turn", None);
        for _ in 0..20 {
            message = text("turn", Some(&quoted(message)));
        }
        assert!(message.len() < 100, "{}", message.len());
    }

    #[test]
    fn what_is_too_long_to_be_quoted_is_only_named() {
        let reply = text("yes", Some(&quoted(text(&"x".repeat(MAX_QUOTED), None))));
        assert!(reply.len() < 100);
        assert!(View::read(&reply).expect("a message").quoted.is_some());
    }

    #[test]
    fn padding_is_one_to_sixteen_bytes_that_tell_their_number() {
        struct Fixed(u8);
        impl Entropy for Fixed {
            fn fill(&mut self, bytes: &mut [u8]) {
                bytes.fill(self.0);
            }
        }
        for byte in 0..=255 {
            let padded = padded(b"x", &mut Fixed(byte));
            let count = padded[padded.len() - 1];
            assert!((1..=16).contains(&count));
            assert_eq!(padded, [&b"x"[..], &vec![count; usize::from(count)]].concat());
        }
    }
}
