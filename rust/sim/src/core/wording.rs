//! What contacts write: the kinds of messages that people write, as the bytes of a `Message`.
//!
//! docs/protocol.md, "Messages"; field numbers from WAProto.proto of Baileys (MIT).

use runner_proto::entropy::Entropy;
use serde::Deserialize;

/// `ProtocolMessage.Type` of an edit; a revoke is 0.
const MESSAGE_EDIT: i32 = 14;

/// One of the kinds of messages that a contact writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wording {
    /// A text.
    #[default]
    Text,
    /// A text that quotes the contact's last text.
    Reply,
    /// An emoji on the contact's last text.
    Reaction,
    /// The contact's last text gets other words.
    Edit,
    /// The contact's last text is taken back.
    Revoke,
}

impl Wording {
    /// The value of a `<message>`'s `type`.
    pub(super) fn stanza_type(self) -> &'static str {
        if self == Self::Reaction { "reaction" } else { "text" }
    }

    /// The value of a `<message>`'s `edit`.
    pub(super) fn edit(self) -> Option<&'static str> {
        match self {
            Self::Edit => Some("1"),
            Self::Revoke => Some("7"),
            _ => None,
        }
    }
}

/// How often each kind is written, relative to the others.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "named like the kinds")]
pub struct Mix {
    pub text: u16,
    pub reply: u16,
    pub reaction: u16,
    pub edit: u16,
    pub revoke: u16,
}

impl Default for Mix {
    /// Nothing when it is given in part: who names kinds names all of them.
    fn default() -> Self {
        Self { text: 0, reply: 0, reaction: 0, edit: 0, revoke: 0 }
    }
}

impl Mix {
    /// What chats look like.
    pub(super) const USUAL: Self = Self { text: 12, reply: 3, reaction: 3, edit: 1, revoke: 1 };

    /// One of the kinds; text when none is named.
    pub(super) fn draw(&self, entropy: &mut dyn Entropy) -> Wording {
        let shares = [
            (Wording::Text, self.text),
            (Wording::Reply, self.reply),
            (Wording::Reaction, self.reaction),
            (Wording::Edit, self.edit),
            (Wording::Revoke, self.revoke),
        ];
        let all = shares.iter().map(|(_, share)| u32::from(*share)).sum::<u32>();
        let mut at = entropy.below(all.max(1));
        for (kind, share) in shares {
            if at < u32::from(share) {
                return kind;
            }
            at -= u32::from(share);
        }
        Wording::Text
    }
}

/// A message that another one is about.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Its id.
    pub(super) id: String,
    /// The chat, as a JID.
    pub(super) chat: String,
    /// Its author, as a JID; `None` outside of a group.
    pub(super) participant: Option<String>,
    /// Its words.
    pub(super) text: String,
}

/// The `Message` of a kind with these words; `about` is of no use to a text.
pub(super) fn message(kind: Wording, text: &str, about: Option<&About>) -> Vec<u8> {
    let words = || Content { conversation: Some(text.to_owned()), ..Content::default() };
    let content = match (kind, about) {
        (Wording::Text, _) | (_, None) => words(),
        (Wording::Reply, Some(about)) => Content {
            extended: Some(Extended {
                text: Some(text.to_owned()),
                context: Some(Context {
                    stanza_id: Some(about.id.clone()),
                    participant: about.participant.clone(),
                    quoted: Some(Box::new(Content {
                        conversation: Some(about.text.clone()),
                        ..Content::default()
                    })),
                }),
            }),
            ..Content::default()
        },
        (Wording::Reaction, Some(about)) => Content {
            reaction: Some(Reaction { key: Some(key(about)), text: Some(text.to_owned()) }),
            ..Content::default()
        },
        (Wording::Edit, Some(about)) => Content {
            edited: Some(Wrapped {
                message: Some(Box::new(protocol(about, MESSAGE_EDIT, Some(Box::new(words()))))),
            }),
            ..Content::default()
        },
        (Wording::Revoke, Some(about)) => protocol(about, 0, None),
    };
    prost::Message::encode_to_vec(&content)
}

/// A `Message` that brings a sender key of its author.
pub(super) fn key_distribution(group: &str, key: Vec<u8>) -> Vec<u8> {
    let sender_key = Some(SenderKey { group: Some(group.to_owned()), key: Some(key) });
    prost::Message::encode_to_vec(&Content { sender_key, ..Content::default() })
}

/// The group and the sender key that a message brings.
pub(super) fn distributed(message: &[u8]) -> Option<(String, Vec<u8>)> {
    let read: Content = prost::Message::decode(message).ok()?;
    let told = read.sender_key?;
    Some((told.group?, told.key?))
}

/// The words of a text.
pub(super) fn text_of(message: &[u8]) -> Option<String> {
    let read: Content = prost::Message::decode(message).ok()?;
    read.conversation.or_else(|| read.extended?.text)
}

/// The id of the message that a text answers.
pub(super) fn quoted_of(message: &[u8]) -> Option<String> {
    let read: Content = prost::Message::decode(message).ok()?;
    read.extended?.context?.stanza_id
}

fn key(about: &About) -> Key {
    Key {
        chat: Some(about.chat.clone()),
        from_me: Some(true),
        id: Some(about.id.clone()),
        participant: about.participant.clone(),
    }
}

fn protocol(about: &About, kind: i32, edited: Option<Box<Content>>) -> Content {
    Content {
        protocol: Some(Box::new(Protocol { key: Some(key(about)), kind: Some(kind), edited })),
        ..Content::default()
    }
}

/// As much of `Message` as a contact reads and writes.
#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(string, optional, tag = "1")]
    conversation: Option<String>,
    #[prost(message, optional, tag = "2")]
    sender_key: Option<SenderKey>,
    #[prost(message, optional, tag = "6")]
    extended: Option<Extended>,
    #[prost(message, optional, boxed, tag = "12")]
    protocol: Option<Box<Protocol>>,
    #[prost(message, optional, tag = "46")]
    reaction: Option<Reaction>,
    #[prost(message, optional, tag = "58")]
    edited: Option<Wrapped>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SenderKey {
    #[prost(string, optional, tag = "1")]
    group: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    key: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extended {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(message, optional, tag = "17")]
    context: Option<Context>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Context {
    #[prost(string, optional, tag = "1")]
    stanza_id: Option<String>,
    #[prost(string, optional, tag = "2")]
    participant: Option<String>,
    #[prost(message, optional, boxed, tag = "3")]
    quoted: Option<Box<Content>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Protocol {
    #[prost(message, optional, tag = "1")]
    key: Option<Key>,
    #[prost(int32, optional, tag = "2")]
    kind: Option<i32>,
    #[prost(message, optional, boxed, tag = "14")]
    edited: Option<Box<Content>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reaction {
    #[prost(message, optional, tag = "1")]
    key: Option<Key>,
    #[prost(string, optional, tag = "2")]
    text: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wrapped {
    #[prost(message, optional, boxed, tag = "1")]
    message: Option<Box<Content>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Key {
    #[prost(string, optional, tag = "1")]
    chat: Option<String>,
    #[prost(bool, optional, tag = "2")]
    from_me: Option<bool>,
    #[prost(string, optional, tag = "3")]
    id: Option<String>,
    #[prost(string, optional, tag = "4")]
    participant: Option<String>,
}
