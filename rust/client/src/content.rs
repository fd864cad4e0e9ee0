//! What is in a decrypted message: a view over the bytes of a `Message`, which stay as they came.
//!
//! Field numbers: docs/protocol.md, "Messages", from WAProto.proto of Baileys (MIT). A kind that is not listed is
//! [`Kind::Unknown`] and nothing is lost: whoever knows it reads the bytes.

use std::fmt;

use crate::protobuf::{Fields, Malformed, Value, find};

/// Messages inside messages that are looked into; real ones have three.
const MAX_DEPTH: usize = 8;

/// Names in one message that are read; a group has fewer members. Each becomes an object of its own to the consumer, so
/// that two bytes on the wire would cost a hundred times as many.
const MAX_MENTIONS: usize = 4096;

/// What a message is, once its wrappers are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text, with or without a link or a quote.
    Text,
    /// A picture.
    Image,
    /// A video, round ones and GIFs included.
    Video,
    /// A sound or a voice note.
    Audio,
    /// A file.
    Document,
    /// A sticker.
    Sticker,
    /// One contact.
    Contact,
    /// Several contacts.
    Contacts,
    /// A place.
    Location,
    /// A place that moves.
    LiveLocation,
    /// An emoji on another message; an empty one takes it back.
    Reaction,
    /// Another message has a new content.
    Edit,
    /// Another message is deleted for everybody.
    Revoke,
    /// A poll.
    Poll,
    /// A vote in a poll, itself encrypted.
    PollVote,
    /// A button or a row of a list was chosen.
    Choice,
    /// An invitation to a group.
    GroupInvite,
    /// Between devices: key shares, history, settings.
    Protocol,
    /// A sender key and nothing beside it.
    KeyDistribution,
    /// Something else; the bytes are there.
    Unknown,
}

impl Kind {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::Text,
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Document,
        Self::Sticker,
        Self::Contact,
        Self::Contacts,
        Self::Location,
        Self::LiveLocation,
        Self::Reaction,
        Self::Edit,
        Self::Revoke,
        Self::Poll,
        Self::PollVote,
        Self::Choice,
        Self::GroupInvite,
        Self::Protocol,
        Self::KeyDistribution,
        Self::Unknown,
    ];

    /// The word for it in the API and the docs.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Sticker => "sticker",
            Self::Contact => "contact",
            Self::Contacts => "contacts",
            Self::Location => "location",
            Self::LiveLocation => "live_location",
            Self::Reaction => "reaction",
            Self::Edit => "edit",
            Self::Revoke => "revoke",
            Self::Poll => "poll",
            Self::PollVote => "poll_vote",
            Self::Choice => "choice",
            Self::GroupInvite => "group_invite",
            Self::Protocol => "protocol",
            Self::KeyDistribution => "key_distribution",
            Self::Unknown => "unknown",
        }
    }
}

/// A message that another one is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageKey<'a> {
    /// The chat.
    pub chat: Option<&'a str>,
    /// Its id.
    pub id: Option<&'a str>,
    /// The author, in a group.
    pub participant: Option<&'a str>,
    /// The author of the message that names it wrote it too.
    pub is_from_me: bool,
}

/// Where an attached file lies and how it is opened; its key and its name are not printed. docs/protocol.md, "Messages".
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Media<'a> {
    /// Where it lies, for a while.
    pub url: Option<&'a str>,
    /// The same without host.
    pub direct_path: Option<&'a str>,
    /// What it is.
    pub mime_type: Option<&'a str>,
    /// Its name; documents have one.
    pub file_name: Option<&'a str>,
    /// Its length once it is opened, bytes.
    pub file_bytes: Option<u64>,
    /// 32 bytes that open it; secret.
    pub key: Option<&'a [u8]>,
    /// SHA-256 of it.
    pub sha256: Option<&'a [u8]>,
    /// SHA-256 of what lies there.
    pub encrypted_sha256: Option<&'a [u8]>,
    /// How long it plays, seconds.
    pub duration_s: Option<u64>,
    /// Pixels.
    pub width: Option<u64>,
    /// Pixels.
    pub height: Option<u64>,
    /// A voice note, recorded for this chat.
    pub is_voice_note: bool,
}

impl fmt::Debug for Media<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("mime_type", &self.mime_type)
            .field("file_bytes", &self.file_bytes)
            .field("key", &self.key.map(Size))
            .field("duration_s", &self.duration_s)
            .field("is_voice_note", &self.is_voice_note)
            .finish_non_exhaustive()
    }
}

/// How much there is of something that is not printed.
struct Size<'a>(&'a [u8]);

impl fmt::Debug for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A place on earth, degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// North is positive.
    pub latitude: f64,
    /// East is positive.
    pub longitude: f64,
}

/// A message, read; its words and its place are not printed.
#[derive(Clone, PartialEq)]
pub struct View<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its words: the text, the caption, the emoji, the question, the choice, the name; an edit's new words.
    pub text: Option<&'a str>,
    /// The attached file.
    pub media: Option<Media<'a>>,
    /// The place.
    pub place: Option<Place>,
    /// The message that a reaction, an edit, a revoke or a vote is about.
    pub target: Option<MessageKey<'a>>,
    /// The message that it answers: id and author.
    pub quoted: Option<MessageKey<'a>>,
    /// Who is named in it, as JIDs; the first 4,096.
    pub mentions: Vec<&'a str>,
    /// It may be looked at once.
    pub is_view_once: bool,
    /// It was forwarded.
    pub is_forwarded: bool,
    /// The chat, when an own other device sent it.
    pub destination: Option<&'a str>,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("kind", &self.kind)
            .field("text", &self.text.map(|text| Size(text.as_bytes())))
            .field("media", &self.media)
            .field("target", &self.target)
            .field("quoted", &self.quoted)
            .field("mentions", &self.mentions)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

impl<'a> View<'a> {
    /// Reads a `Message`.
    ///
    /// # Errors
    /// It is no protobuf, or has more wrappers than anybody sends; the peer's fault.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut view = Self {
            kind: Kind::Unknown,
            text: None,
            media: None,
            place: None,
            target: None,
            quoted: None,
            mentions: Vec::new(),
            is_view_once: false,
            is_forwarded: false,
            destination: None,
        };
        view.message(message, MAX_DEPTH)?;
        Ok(view)
    }

    fn message(&mut self, message: &'a [u8], depth: usize) -> Result<(), Malformed> {
        let Some(depth) = depth.checked_sub(1) else { return Err(Malformed) };
        let mut has_key_distribution = false;
        for field in Fields::new(message) {
            let (number, value) = field?;
            let Some(inner) = value.bytes() else { continue };
            match number {
                field::CONVERSATION => {
                    self.kind = Kind::Text;
                    self.text = value.text();
                }
                field::SENDER_KEY_DISTRIBUTION | field::FAST_SENDER_KEY_DISTRIBUTION => {
                    has_key_distribution = true;
                }
                field::IMAGE => self.attachment(Kind::Image, inner, &IMAGE)?,
                field::VIDEO | field::ROUND_VIDEO => self.attachment(Kind::Video, inner, &VIDEO)?,
                field::AUDIO => self.attachment(Kind::Audio, inner, &AUDIO)?,
                field::DOCUMENT => self.attachment(Kind::Document, inner, &DOCUMENT)?,
                field::STICKER => self.attachment(Kind::Sticker, inner, &STICKER)?,
                field::EXTENDED_TEXT => self.plain(Kind::Text, inner, 1, 17)?,
                field::CONTACT => self.plain(Kind::Contact, inner, 1, 17)?,
                field::CONTACTS => self.plain(Kind::Contacts, inner, 1, 17)?,
                field::LOCATION => self.location(Kind::Location, inner, 3)?,
                field::LIVE_LOCATION => self.location(Kind::LiveLocation, inner, 6)?,
                field::GROUP_INVITE => self.plain(Kind::GroupInvite, inner, 6, 7)?,
                field::BUTTONS_RESPONSE => self.plain(Kind::Choice, inner, 1, 3)?,
                field::TEMPLATE_BUTTON_REPLY => self.plain(Kind::Choice, inner, 1, 3)?,
                field::LIST_RESPONSE => {
                    self.plain(Kind::Choice, inner, 1, 4)?;
                    let row = find(inner, 3)?.and_then(Value::bytes);
                    let row = row.map_or(Ok(None), |row| find(row, 1))?.and_then(Value::text);
                    self.text = row.or(self.text);
                }
                field::POLL | field::POLL_V2 | field::POLL_V3 | field::POLL_V5 => {
                    self.plain(Kind::Poll, inner, 2, 5)?;
                }
                field::POLL_VOTE => {
                    self.kind = Kind::PollVote;
                    self.target = key(find(inner, 1)?)?;
                }
                field::REACTION => {
                    self.kind = Kind::Reaction;
                    self.target = key(find(inner, 1)?)?;
                    self.text = find(inner, 2)?.and_then(Value::text);
                }
                field::PROTOCOL => self.protocol(inner, depth)?,
                field::DEVICE_SENT => {
                    self.destination = find(inner, 1)?.and_then(Value::text);
                    self.nested(find(inner, 2)?, depth)?;
                }
                field::VIEW_ONCE | field::VIEW_ONCE_V2 | field::VIEW_ONCE_V2_EXTENSION => {
                    self.is_view_once = true;
                    self.nested(find(inner, 1)?, depth)?;
                }
                number if field::WRAPPERS.contains(&number) => self.nested(find(inner, 1)?, depth)?,
                _ => {}
            }
        }
        if has_key_distribution && self.kind == Kind::Unknown && !has_more(message)? {
            self.kind = Kind::KeyDistribution;
        }
        Ok(())
    }

    fn nested(&mut self, value: Option<Value<'a>>, depth: usize) -> Result<(), Malformed> {
        value.and_then(Value::bytes).map_or(Ok(()), |message| self.message(message, depth))
    }

    fn protocol(&mut self, protocol: &'a [u8], depth: usize) -> Result<(), Malformed> {
        const REVOKE: u64 = 0;
        const MESSAGE_EDIT: u64 = 14;
        let target = key(find(protocol, 1)?)?;
        match find(protocol, 2)?.and_then(Value::varint).unwrap_or(REVOKE) {
            REVOKE if target.is_some() => self.kind = Kind::Revoke,
            MESSAGE_EDIT => {
                self.nested(find(protocol, 14)?, depth)?;
                self.kind = Kind::Edit;
            }
            _ => {
                self.kind = Kind::Protocol;
                return Ok(());
            }
        }
        self.target = target;
        Ok(())
    }

    /// Words in one field, the context in another.
    fn plain(&mut self, kind: Kind, message: &'a [u8], text: u32, context: u32) -> Result<(), Malformed> {
        self.kind = kind;
        self.text = find(message, text)?.and_then(Value::text);
        self.context(find(message, context)?)
    }

    fn location(&mut self, kind: Kind, message: &'a [u8], text: u32) -> Result<(), Malformed> {
        self.plain(kind, message, text, 17)?;
        let degrees = |number| Ok(find(message, number)?.and_then(Value::double));
        if let (Some(latitude), Some(longitude)) = (degrees(1)?, degrees(2)?) {
            self.place = Some(Place { latitude, longitude });
        }
        Ok(())
    }

    fn attachment(&mut self, kind: Kind, message: &'a [u8], at: &MediaFields) -> Result<(), Malformed> {
        self.kind = kind;
        let mut media = Media::default();
        for field in Fields::new(message) {
            let (number, value) = field?;
            let is = |field: u32| field != 0 && field == number;
            if is(at.url) {
                media.url = value.text();
            } else if is(at.direct_path) {
                media.direct_path = value.text();
            } else if is(at.mime_type) {
                media.mime_type = value.text();
            } else if is(at.file_name) {
                media.file_name = value.text();
            } else if is(at.caption) {
                self.text = value.text();
            } else if is(at.file_bytes) {
                media.file_bytes = value.varint();
            } else if is(at.key) {
                media.key = value.bytes();
            } else if is(at.sha256) {
                media.sha256 = value.bytes();
            } else if is(at.encrypted_sha256) {
                media.encrypted_sha256 = value.bytes();
            } else if is(at.duration_s) {
                media.duration_s = value.varint();
            } else if is(at.width) {
                media.width = value.varint();
            } else if is(at.height) {
                media.height = value.varint();
            } else if is(at.voice_note) {
                media.is_voice_note = value.varint() == Some(1);
            } else if is(at.view_once) {
                self.is_view_once |= value.varint() == Some(1);
            } else if number == CONTEXT_OF_MEDIA {
                self.context(Some(value))?;
            }
        }
        self.media = Some(media);
        Ok(())
    }

    fn context(&mut self, context: Option<Value<'a>>) -> Result<(), Malformed> {
        let Some(context) = context.and_then(Value::bytes) else { return Ok(()) };
        let mut quoted = MessageKey::default();
        for field in Fields::new(context) {
            match field? {
                (1, id) => quoted.id = id.text(),
                (2, participant) => quoted.participant = participant.text(),
                (4, chat) => quoted.chat = chat.text(),
                (15, mentioned) if self.mentions.len() < MAX_MENTIONS => {
                    self.mentions.extend(mentioned.text());
                }
                (22, forwarded) => self.is_forwarded = forwarded.varint() == Some(1),
                _ => {}
            }
        }
        self.quoted = quoted.id.is_some().then_some(quoted);
        Ok(())
    }
}

/// The sender key in a message, if it has one: the group and the encoded `SenderKeyDistributionMessage`.
pub(crate) fn key_distribution(message: &[u8]) -> Result<Option<(&str, &[u8])>, Malformed> {
    let Some(distribution) = find(message, field::SENDER_KEY_DISTRIBUTION)?.and_then(Value::bytes) else {
        return Ok(None);
    };
    let group = find(distribution, 1)?.and_then(Value::text);
    let key = find(distribution, 2)?.and_then(Value::bytes);
    Ok(group.zip(key))
}

/// Whether a message has anything beside a sender key and what accompanies every message.
pub(crate) fn has_more(message: &[u8]) -> Result<bool, Malformed> {
    for field in Fields::new(message) {
        let (number, _) = field?;
        let is_aside = matches!(
            number,
            field::SENDER_KEY_DISTRIBUTION | field::FAST_SENDER_KEY_DISTRIBUTION | field::CONTEXT_INFO
        );
        if !is_aside {
            return Ok(true);
        }
    }
    Ok(false)
}

fn key(value: Option<Value<'_>>) -> Result<Option<MessageKey<'_>>, Malformed> {
    let Some(bytes) = value.and_then(Value::bytes) else { return Ok(None) };
    let mut key = MessageKey::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, chat) => key.chat = chat.text(),
            (2, from_me) => key.is_from_me = from_me.varint() == Some(1),
            (3, id) => key.id = id.text(),
            (4, participant) => key.participant = participant.text(),
            _ => {}
        }
    }
    Ok(Some(key))
}

/// Fields of `Message`.
mod field {
    pub(super) const CONVERSATION: u32 = 1;
    pub(super) const SENDER_KEY_DISTRIBUTION: u32 = 2;
    pub(super) const IMAGE: u32 = 3;
    pub(super) const CONTACT: u32 = 4;
    pub(super) const LOCATION: u32 = 5;
    pub(super) const EXTENDED_TEXT: u32 = 6;
    pub(super) const DOCUMENT: u32 = 7;
    pub(super) const AUDIO: u32 = 8;
    pub(super) const VIDEO: u32 = 9;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const CONTACTS: u32 = 13;
    pub(super) const FAST_SENDER_KEY_DISTRIBUTION: u32 = 15;
    pub(super) const LIVE_LOCATION: u32 = 18;
    pub(super) const STICKER: u32 = 26;
    pub(super) const GROUP_INVITE: u32 = 28;
    pub(super) const TEMPLATE_BUTTON_REPLY: u32 = 29;
    pub(super) const DEVICE_SENT: u32 = 31;
    pub(super) const CONTEXT_INFO: u32 = 35;
    pub(super) const VIEW_ONCE: u32 = 37;
    pub(super) const LIST_RESPONSE: u32 = 39;
    pub(super) const BUTTONS_RESPONSE: u32 = 43;
    pub(super) const REACTION: u32 = 46;
    pub(super) const POLL: u32 = 49;
    pub(super) const POLL_VOTE: u32 = 50;
    pub(super) const VIEW_ONCE_V2: u32 = 55;
    pub(super) const VIEW_ONCE_V2_EXTENSION: u32 = 59;
    pub(super) const POLL_V2: u32 = 60;
    pub(super) const POLL_V3: u32 = 64;
    pub(super) const ROUND_VIDEO: u32 = 66;
    pub(super) const POLL_V5: u32 = 111;
    /// Messages that hold another one in field 1 and say little of their own: ephemeral, document with caption, edited,
    /// group mention, bot, animated sticker, status and question wrappers.
    pub(super) const WRAPPERS: [u32; 15] = [40, 53, 58, 62, 67, 74, 85, 87, 91, 92, 96, 101, 103, 104, 106];
}

/// `contextInfo`, in every message with an attached file.
const CONTEXT_OF_MEDIA: u32 = 17;

/// Where the messages with attached files have what they have; 0: nowhere.
struct MediaFields {
    url: u32,
    direct_path: u32,
    mime_type: u32,
    file_name: u32,
    caption: u32,
    file_bytes: u32,
    key: u32,
    sha256: u32,
    encrypted_sha256: u32,
    duration_s: u32,
    width: u32,
    height: u32,
    voice_note: u32,
    view_once: u32,
}

const IMAGE: MediaFields = MediaFields {
    url: 1,
    mime_type: 2,
    caption: 3,
    sha256: 4,
    file_bytes: 5,
    height: 6,
    width: 7,
    key: 8,
    encrypted_sha256: 9,
    direct_path: 11,
    view_once: 25,
    file_name: 0,
    duration_s: 0,
    voice_note: 0,
};
const VIDEO: MediaFields = MediaFields {
    url: 1,
    mime_type: 2,
    sha256: 3,
    file_bytes: 4,
    duration_s: 5,
    key: 6,
    caption: 7,
    height: 9,
    width: 10,
    encrypted_sha256: 11,
    direct_path: 13,
    view_once: 20,
    file_name: 0,
    voice_note: 0,
};
const AUDIO: MediaFields = MediaFields {
    url: 1,
    mime_type: 2,
    sha256: 3,
    file_bytes: 4,
    duration_s: 5,
    voice_note: 6,
    key: 7,
    encrypted_sha256: 8,
    direct_path: 9,
    view_once: 20,
    caption: 0,
    file_name: 0,
    width: 0,
    height: 0,
};
const DOCUMENT: MediaFields = MediaFields {
    url: 1,
    mime_type: 2,
    sha256: 4,
    file_bytes: 5,
    key: 7,
    file_name: 8,
    encrypted_sha256: 9,
    direct_path: 10,
    caption: 20,
    duration_s: 0,
    width: 0,
    height: 0,
    voice_note: 0,
    view_once: 0,
};
const STICKER: MediaFields = MediaFields {
    url: 1,
    sha256: 2,
    encrypted_sha256: 3,
    key: 4,
    mime_type: 5,
    height: 6,
    width: 7,
    direct_path: 8,
    file_bytes: 9,
    caption: 0,
    file_name: 0,
    duration_s: 0,
    voice_note: 0,
    view_once: 0,
};

#[cfg(test)]
mod tests;
