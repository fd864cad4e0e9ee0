//! What can be asked of a running simulator: the routes of the control port as values.
//!
//! The names and bodies of the reference server's routes are kept, so that one client drives both
//! (docs/simulator.md lists all of them).

use runner_proto::jid::Jid;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::chain::ChainFault;
use super::owed::AnswerRule;
use super::wording::{Mix, Wording};
use super::world::ConnectionId;

/// Which connections a command is for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Every connection there is.
    pub all: bool,
    /// The connections of one username.
    #[serde(deserialize_with = "username")]
    pub user: Option<u64>,
    /// The connections of several usernames.
    #[serde(deserialize_with = "usernames")]
    pub users: Vec<u64>,
    /// One connection.
    pub sid: Option<ConnectionId>,
}

impl Target {
    /// Every connection.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// The connections of one username.
    pub fn user(username: u64) -> Self {
        Self { user: Some(username), ..Self::default() }
    }

    /// True when the command names somebody.
    pub fn is_given(&self) -> bool {
        self.all || self.user.is_some() || !self.users.is_empty() || self.sid.is_some()
    }

    /// True when a connection is meant.
    pub fn matches(&self, id: ConnectionId, username: Option<u64>) -> bool {
        self.all || self.sid == Some(id) || username.is_some_and(|name| self.names(name))
    }

    /// True when a username is meant.
    pub fn names(&self, username: u64) -> bool {
        self.all || self.user == Some(username) || self.users.contains(&username)
    }
}

/// A username as the control port accepts it: a number, or its decimal digits.
#[derive(Deserialize)]
#[serde(untagged)]
enum Username {
    Number(u64),
    Digits(String),
}

impl Username {
    fn number<E: serde::de::Error>(self) -> Result<u64, E> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Digits(digits) => digits.parse().map_err(|_| E::custom("a user is a number")),
        }
    }
}

fn username<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Option::<Username>::deserialize(from)?.map(Username::number).transpose()
}

fn usernames<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    Vec::<Username>::deserialize(from)?.into_iter().map(Username::number).collect()
}

/// A node as the control port writes it.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct JsonNode {
    /// The tag.
    pub tag: String,
    /// Values with an `@` that parse as a JID travel as JIDs.
    pub attrs: Map<String, Value>,
    /// Children, or text.
    pub content: Option<JsonContent>,
    /// Bytes, base64.
    pub content_b64: Option<String>,
}

/// The content of a [`JsonNode`].
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged)]
pub enum JsonContent {
    /// Children.
    Nodes(Vec<JsonNode>),
    /// Text.
    Text(String),
}

/// How deaf a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Silence {
    /// Reads everything and answers nothing; TCP still acknowledges.
    #[default]
    App,
    /// Does not even read the socket.
    Socket,
}

/// How new connections are turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum Refusal {
    /// Nobody listens: the dial is refused.
    #[default]
    #[serde(rename = "unlisten")]
    Unlisten,
    /// The connection is reset at accept.
    #[serde(rename = "reset")]
    Reset,
    /// The upgrade is answered with an HTTP status, 503 unless `status` says otherwise.
    #[serde(rename = "503", alias = "status")]
    Status,
    /// The connection is accepted and nothing is ever said.
    #[serde(rename = "hang")]
    Hang,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A WebSocket close frame, then the TCP connection.
    Clean(u16),
    /// TCP's end of stream without a close frame.
    Fin,
    /// A TCP reset.
    Reset,
}

/// A contact writes to clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Say {
    /// To whom: users, or all.
    #[serde(flatten)]
    pub target: Target,
    /// Which contact, from 0.
    pub contact: u32,
    /// What; `{n}` is the number of the message. An emoji for a reaction, the new words for an edit.
    pub text: String,
    /// How many messages each gets.
    pub n: u32,
    /// What kind of message.
    pub kind: Wording,
    /// In the group that each has with the contacts.
    pub group: bool,
}

impl Default for Say {
    fn default() -> Self {
        let (target, text) = (Target::default(), "hello {n}".to_owned());
        Self { target, contact: 0, text, n: 1, kind: Wording::Text, group: false }
    }
}

/// Contacts write by themselves.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Chatter {
    /// Messages a minute over all clients; 0: none.
    pub per_minute: f64,
    /// How often each kind is written.
    pub kinds: Mix,
    /// The share of it that is written in groups, from 0 to 1.
    pub groups: f64,
}

impl Default for Chatter {
    fn default() -> Self {
        Self { per_minute: 0.0, kinds: Mix::USUAL, groups: 0.25 }
    }
}

/// A group that is made on command, or changed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct NewGroup {
    /// Which is changed; without one a new one is made.
    #[serde(deserialize_with = "jid")]
    pub jid: Option<Jid>,
    /// What it is called.
    pub subject: String,
    /// Who is in it.
    #[serde(deserialize_with = "usernames")]
    pub members: Vec<u64>,
    /// Who comes into one that is there.
    #[serde(deserialize_with = "usernames")]
    pub add: Vec<u64>,
    /// Who leaves it.
    #[serde(deserialize_with = "usernames")]
    pub remove: Vec<u64>,
    /// Its members are called by their LIDs.
    pub lid: Option<bool>,
    /// Only its admin may write to it: the member with the lowest number.
    pub announce: Option<bool>,
}

impl Default for NewGroup {
    fn default() -> Self {
        Self {
            jid: None,
            subject: "Group".to_owned(),
            members: Vec::new(),
            add: Vec::new(),
            remove: Vec::new(),
            lid: None,
            announce: None,
        }
    }
}

/// What is wrong with what the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Malformed {
    /// A token byte that does not exist.
    Token,
    /// A list that promises more than there is.
    Truncated,
    /// Lists in lists, deeper than anybody reads.
    Deep,
    /// The flag says zlib and the bytes are not.
    Zlib,
    /// Zlib that inflates to 64 MiB.
    ZipBomb,
    /// An empty plaintext: not even a flag byte.
    Empty,
    /// Bytes that no key opens.
    Undecryptable,
    /// A frame header that announces 16 MiB.
    FrameTooLong,
    /// The first MiB of a frame of 4 MiB whose rest never comes; what is sent later is taken for it.
    Unfinished,
    /// A WebSocket text message.
    Text,
    /// A WebSocket frame with a reserved opcode.
    Opcode,
    /// A masked WebSocket frame, which a server must not send.
    Masked,
}

/// How the frames of a connection are dressed; `None` leaves a setting as it is.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Shape {
    /// Cut what is sent into WebSocket messages of so many bytes; 0 = off.
    pub split_bytes: Option<usize>,
    /// Put all frames of one turn into one WebSocket message.
    pub coalesce: Option<bool>,
    /// Compress every node.
    pub zlib: Option<bool>,
    /// Namespaces of iqs that stay unanswered; `"*"` is every one, `"w:p"` are the pings.
    pub mute: Option<Vec<String>>,
    /// Do not answer `<message>` with an ack.
    pub mute_acks: Option<bool>,
    /// Do not send `<ib><offline>`.
    pub mute_offline: Option<bool>,
    /// Refuse `<message>` with this number, such as 463 of a restricted account; 0 = off.
    pub refuse_sends: Option<u32>,
}

/// What happens to a login instead of, or after, `<success>`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "mode", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum LoginFault {
    /// Logins succeed: forgets every rule.
    Success,
    /// `<failure reason=…>` instead of `<success>`.
    Failure {
        /// The code.
        #[serde(default = "logged_out")]
        reason: u32,
        /// Further attributes of the failure, such as `code` and `expire`.
        #[serde(default)]
        attrs: Map<String, Value>,
    },
    /// `<stream:error>` after the login.
    StreamError {
        /// The code.
        code: Option<u32>,
        /// The child.
        child: Option<String>,
        /// Its attributes.
        #[serde(default)]
        child_attrs: Map<String, Value>,
        /// How long after `<success>`, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// `<xmlstreamend/>` and the end, so long after `<success>`.
    Xmlstreamend {
        /// Milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// The connection ends, so long after `<success>` (or instead of it).
    Close {
        /// Milliseconds.
        #[serde(default)]
        after_ms: u64,
        /// Reset instead of a close frame.
        #[serde(default)]
        hard: bool,
        /// Close instead of answering the login at all.
        #[serde(default)]
        instead: bool,
    },
    /// Nothing is answered any more, `<success>` included.
    Silent {
        /// How deaf.
        #[serde(default)]
        level: Silence,
        /// `<success>` comes, and then nothing any more.
        #[serde(default)]
        after_success: bool,
    },
    /// `<success>` never comes; everything else is answered.
    Ignore,
    /// Every answer is late, `<success>` included.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Something that does not parse instead of `<success>`.
    Malformed {
        /// What.
        kind: Malformed,
    },
}

fn logged_out() -> u32 {
    401
}

/// What happens in a Noise handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandshakeFault {
    /// It succeeds.
    #[default]
    None,
    /// A resume attempt is refused: XXfallback.
    RefuseIk,
    /// A resume attempt is answered as if it were a plain XX hello.
    IkAsXx,
    /// A resume attempt is answered with bytes that no key opens.
    BreakIk,
    /// The hello is never answered.
    Silent,
    /// The hello is answered with bytes that are no handshake message.
    Garbage,
    /// The server's messages cannot be opened.
    Undecryptable,
}

/// Settings that hold until they are changed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// What `encrypt <count/>` answers.
    pub pre_key_count: u32,
    /// Send `<ib><offline>` at all.
    pub passive_offline: bool,
    /// Devices that are not in the registry are let in instead of failing with 401.
    pub accept_anybody: bool,
    /// The `client_revision` that `/sw.js` shows.
    pub client_revision: u32,
    /// Logins with a revision below this fail with 405.
    pub min_revision: u32,
    /// Send `<ib><edge_routing>` after a login.
    pub edge_routing: bool,
    /// Send `<ib><dirty type=account_sync>` after a login.
    pub dirty: bool,
    /// What answers a message.
    pub answer_rule: AnswerRule,
    /// End the stream when a stanza stays unanswered for so many seconds; 0 = never.
    pub answer_seconds: f64,
    /// Messages that a connection left unanswered are delivered again on the next one.
    pub redeliver: bool,
    /// Stanzas kept per device that is not connected.
    pub offline_capacity: usize,
    /// Stanzas of the offline backlog sent before the client asks for a batch.
    pub offline_primer: usize,
    /// What clients send is kept, in this many entries; 0 = off.
    pub sent_capacity: usize,
    /// What happens in handshakes.
    pub handshake: HandshakeFault,
    /// What is wrong with the certificate chain.
    pub chain: Option<ChainFault>,
    /// Pairing codes are refused with this number; 0 = never.
    pub link_code_error: u32,
    /// Every n-th message is broken on its way, so that its receiver asks for it again; 0 = none is.
    pub spoil_every: u32,
    /// New signed pre-keys are refused with this number; 0 = never.
    pub rotate_error: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pre_key_count: 812,
            passive_offline: true,
            accept_anybody: false,
            client_revision: DEFAULT_REVISION,
            min_revision: 0,
            edge_routing: true,
            dirty: false,
            answer_rule: AnswerRule::Receipt,
            answer_seconds: 0.0,
            redeliver: true,
            offline_capacity: 10_000,
            offline_primer: 5,
            sent_capacity: 100_000,
            handshake: HandshakeFault::None,
            chain: None,
            link_code_error: 0,
            spoil_every: 0,
            rotate_error: 0,
        }
    }
}

/// The revision that `/sw.js` shows until told otherwise; that of Baileys 7.0.0-rc13.
pub const DEFAULT_REVISION: u32 = 1_035_194_821;

/// A stanza to push many times.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Push {
    /// To whom.
    #[serde(flatten)]
    pub target: Target,
    /// How many for each target.
    pub n: u64,
    /// `receipt`, `notification`, `ib` or `message`.
    pub template: Option<String>,
    /// A node of the caller's own; an attribute `id` of `"$ID"` is made unique.
    pub node: Option<JsonNode>,
    /// Noise frames per WebSocket message.
    pub coalesce: usize,
    /// Nodes per second over all targets; 0 = as fast as the sockets take them.
    pub rate: f64,
    /// Give up after so long.
    pub max_seconds: f64,
    /// Queue for targets (`user`, `users`) that are not connected.
    pub offline: bool,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            target: Target::default(),
            n: 1,
            template: None,
            node: None,
            coalesce: 1,
            rate: 0.0,
            max_seconds: 120.0,
            offline: false,
        }
    }
}

/// What a phone, or the server behind it, does wrong when it links a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhoneFault {
    /// The consent is authenticated under another secret.
    BadHmac,
    /// The account signed for another device.
    BadSignature,
    /// The phone says nothing at all.
    Silent,
    /// The device is linked, and nobody tells it to connect anew.
    NoRestart,
}

/// A phone scans a QR code.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Scan {
    /// What the code says.
    pub qr: String,
    /// The phone's number; without one the next that is free.
    #[serde(deserialize_with = "username")]
    pub phone: Option<u64>,
    /// The same with the device's number, as the reference server has it.
    #[serde(deserialize_with = "jid")]
    pub jid: Option<Jid>,
    /// What goes wrong.
    pub fault: Option<PhoneFault>,
    /// The phone is that of a business with this name.
    pub business: Option<String>,
    /// What its owner calls the device.
    pub name: Option<String>,
}

/// Somebody types a pairing code into a phone.
#[derive(Debug, Clone, Deserialize)]
pub struct TypedCode {
    /// As it is shown, or without the dash.
    pub code: String,
    /// The phone's number.
    #[serde(deserialize_with = "number")]
    pub phone: u64,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Option<PhoneFault>,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Username::deserialize(from)?.number()
}

fn jid<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Jid>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// A contact cannot read what it is sent, and asks for it again.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Mishear {
    /// Which contact, from 0.
    pub contact: u32,
    /// How many messages.
    pub n: u32,
}

impl Default for Mishear {
    fn default() -> Self {
        Self { contact: 0, n: 1 }
    }
}

/// A contact is linked anew.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NewIdentity {
    /// Who is told; everybody when nobody is named.
    #[serde(flatten)]
    pub target: Target,
    /// Which contact, from 0.
    pub contact: u32,
}

/// Everything that can be asked.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each variant is a route of docs/simulator.md")]
pub enum Command {
    Info,
    Say(Say),
    Chatter(Chatter),
    Group(NewGroup),
    Stats,
    Sessions,
    Devices,
    Pings {
        user: Option<u64>,
    },
    Events {
        since: u64,
    },
    Sent {
        since: u64,
        user: Option<u64>,
        tag: Option<String>,
    },
    Heard {
        since: u64,
        user: Option<u64>,
    },
    Mishear(Mishear),
    Owed {
        user: Option<u64>,
    },
    Reset,
    Push(Push),
    Send {
        target: Target,
        nodes: Vec<JsonNode>,
        cut_bytes: usize,
    },
    StreamError {
        target: Target,
        code: Option<u32>,
        child: Option<String>,
        child_attrs: Map<String, Value>,
        end: bool,
    },
    StreamEnd {
        target: Target,
    },
    Failure {
        target: Target,
        reason: u32,
        attrs: Map<String, Value>,
    },
    LoginPolicy {
        target: Target,
        fault: LoginFault,
        count: u32,
    },
    Close {
        target: Target,
        ending: Ending,
    },
    Silent {
        target: Target,
        silence: Option<Silence>,
    },
    Delay {
        target: Target,
        ms: u64,
    },
    Malformed {
        target: Target,
        kind: Malformed,
    },
    Shape {
        target: Target,
        shape: Shape,
        next: bool,
    },
    Unlink {
        target: Target,
    },
    Relink {
        target: Target,
    },
    Refuse {
        seconds: f64,
        mode: Refusal,
        status: u16,
    },
    Config(Map<String, Value>),
    Scan(Scan),
    EnterCode(TypedCode),
    NewIdentity(NewIdentity),
    LoseKeys {
        target: Target,
    },
    Quit,
}
