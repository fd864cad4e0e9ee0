//! The server's side of one connection, built on the same parts in the other role.

use std::collections::HashMap;

use prost::Message as _;
use runner_proto::{
    frame::{self, PROLOGUE},
    handshake::{CertChain, CertDetails, HandshakeMessage, NoiseCertificate, ServerHello},
    jid::{Jid, Server},
    node::{self, AttrValue, Limits, Node, NodeContent},
    noise::{KeyPair, Pattern, Role, SymmetricState, Transport, dh},
    payload::ClientPayload,
    ws::{self, Message, Opcode, RequestTarget},
};

const ROOT: [u8; 32] = [9; 32];
const INTERMEDIATE: [u8; 32] = [8; 32];

pub fn root_key() -> [u8; 32] {
    *KeyPair::from_secret(ROOT).public()
}

pub fn static_key() -> KeyPair {
    KeyPair::from_secret([4; 32])
}

/// What the server knows of users.
#[derive(Default)]
pub struct Directory {
    /// `<user>` of a device query, by user; an empty directory answers like any other request.
    pub devices: HashMap<String, Node>,
    /// `<user>` of a request for bundles, by device.
    pub bundles: HashMap<String, Node>,
    /// `<group>`, or the number of an error, by group; there is no other group once there is one.
    pub groups: HashMap<String, Result<Node, u32>>,
    /// Bundles that come with every answer to a request for bundles, asked for or not.
    pub unasked: Vec<Node>,
    /// Requests of any of these kinds, in order.
    pub asked: Vec<Node>,
}

impl Directory {
    /// A user has these devices.
    pub fn set_devices(&mut self, user: &str, numbers: &[u16]) {
        let device = |number: &u16| {
            let device = Node::new("device").attr("id", number.to_string());
            if *number == 0 { device } else { device.attr("key-index", "1") }
        };
        let list = Node::new("device-list").children(numbers.iter().map(device));
        let entry =
            Node::new("user").attr_jid("jid", super::jid(user)).child(Node::new("devices").child(list));
        self.devices.insert(user.to_owned(), entry);
    }

    /// A group has these members, called as they are, of whom the first is its admin.
    pub fn set_group(&mut self, group: &str, members: &[&str]) {
        let mode = if members[0].ends_with("@lid") { "lid" } else { "pn" };
        let node = Node::new("group").attr("id", group).attr("addressing_mode", mode);
        let node = members.iter().enumerate().fold(node, |node, (at, member)| {
            let member = Node::new("participant").attr_jid("jid", super::jid(member));
            node.child(if at == 0 { member.attr("type", "admin") } else { member })
        });
        self.groups.insert(group.to_owned(), Ok(node));
    }

    fn answer_group(&mut self, request: &Node) -> Option<Node> {
        if self.groups.is_empty() {
            return None;
        }
        self.asked.push(request.clone());
        let iq = Node::new("iq").attr("from", attr(request, "to")).attr("id", attr(request, "id"));
        Some(match self.groups.get(&attr(request, "to")).cloned().unwrap_or(Err(404)) {
            Ok(group) => iq.attr("type", "result").child(group),
            Err(code) => iq.attr("type", "error").child(Node::new("error").attr("code", code.to_string())),
        })
    }

    fn answer(&mut self, request: &Node) -> Option<Node> {
        let NodeContent::Nodes(children) = &request.content else { return None };
        let child = children.first()?;
        if child.tag == "query" && attr(request, "xmlns") == "w:g2" {
            return self.answer_group(request);
        }
        let (users, entries) = match child.tag.as_str() {
            "usync" => (named(child, "list")?, &self.devices),
            "key" => (child, &self.bundles),
            _ => return None,
        };
        if entries.is_empty() {
            return None;
        }
        self.asked.push(request.clone());
        let NodeContent::Nodes(users) = &users.content else { return None };
        let found = users.iter().filter_map(|user| entries.get(&attr(user, "jid")).cloned());
        let unasked = self.unasked.iter().filter(|_| child.tag == "key").cloned();
        let list = Node::new("list").children(found.chain(unasked));
        let list = if child.tag == "usync" { Node::new("usync").child(list) } else { list };
        Some(
            Node::new("iq")
                .attr_jid("from", server())
                .attr("type", "result")
                .attr("id", attr(request, "id"))
                .child(list),
        )
    }
}

fn named<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    match &node.content {
        NodeContent::Nodes(children) => children.iter().find(|child| child.tag == tag),
        _ => None,
    }
}

/// How an IK hello is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    #[default]
    Accept,
    /// Refused: XXfallback.
    Fallback,
    /// Not understood: answered as if it were an XX hello.
    AsXx,
    Silent,
}

/// What the server does by itself.
pub struct Script {
    pub resume: Resume,
    /// The answer to the upgrade request; None: the right one.
    pub upgrade: Option<Vec<u8>>,
    pub answers_upgrade: bool,
    pub answers_hello: bool,
    /// Sent after the login; None: nothing.
    pub login: Option<Node>,
    /// `<ib><offline/></ib>` after the login.
    pub ends_backlog: bool,
    pub answers_pings: bool,
    pub answers_requests: bool,
    pub acknowledges_messages: bool,
    /// What a question for the number of pre-keys is answered with; `None`: with nothing.
    pub pre_key_count: Option<u64>,
    /// Answer uploads of pre-keys.
    pub answers_uploads: bool,
    /// `<digest>`, or an error's number, in answer to what it has of the client's keys.
    pub digest: Result<Node, u32>,
    /// A new signed pre-key is refused with this number.
    pub rotate_error: Option<u32>,
    /// New signed pre-keys are answered at all.
    pub answers_rotations: bool,
    /// The validity of the certificates, relative to now in seconds.
    pub validity: (i64, i64),
    /// Whether the chain is signed by the root that the client trusts.
    pub is_trusted: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            resume: Resume::Accept,
            upgrade: None,
            answers_upgrade: true,
            answers_hello: true,
            login: Some(success()),
            ends_backlog: true,
            answers_pings: true,
            answers_requests: true,
            acknowledges_messages: true,
            pre_key_count: None,
            answers_uploads: true,
            digest: Ok(Node::new("digest")),
            rotate_error: None,
            answers_rotations: true,
            validity: (-1000, 1_000_000),
            is_trusted: true,
        }
    }
}

pub fn success() -> Node {
    Node::new("success")
        .attr("t", (super::START_UNIX_MS / 1000 + 100).to_string())
        .attr_jid("lid", super::jid("900000000001:3@lid"))
}

pub fn ib(child: Node) -> Node {
    Node::new("ib").attr_jid("from", server()).child(child)
}

pub fn server() -> Jid {
    Jid::server(Server::Pn)
}

enum Stage {
    Upgrade,
    Intro,
    Hello,
    Finish { state: Box<SymmetricState>, ephemeral: KeyPair },
    Open(Transport),
}

pub struct Peer {
    pub script: Script,
    /// Bytes for the client.
    pub out: Vec<u8>,
    /// Every stanza from the client.
    pub received: Vec<Node>,
    pub pongs: usize,
    pub pings: usize,
    pub closes: Vec<Option<u16>>,
    pub routing_info: Option<Vec<u8>>,
    pub login: Option<ClientPayload>,
    pub pattern: Option<Pattern>,
    /// Swallow everything and say nothing.
    pub is_dead: bool,
    /// Who has which devices and keys.
    pub directory: Directory,
    stage: Stage,
    ws: ws::Decoder,
    head: Vec<u8>,
    stream: Vec<u8>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            script: Script::default(),
            out: Vec::new(),
            received: Vec::new(),
            pongs: 0,
            pings: 0,
            closes: Vec::new(),
            routing_info: None,
            login: None,
            pattern: None,
            is_dead: false,
            directory: Directory::default(),
            stage: Stage::Upgrade,
            ws: ws::Decoder::new(ws::Role::Server),
            head: Vec::new(),
            stream: Vec::new(),
        }
    }
}

impl Peer {
    /// Bytes from the client.
    pub fn receive(&mut self, bytes: &[u8], unix_s: u64) {
        if self.is_dead {
            return;
        }
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        if matches!(self.stage, Stage::Upgrade) {
            self.head.extend_from_slice(input);
            let Some(request) = ws::parse_request(&self.head).expect("a valid request") else { return };
            let RequestTarget::WebSocket { accept } = request.target else { panic!("not an upgrade") };
            assert_eq!(request.len, self.head.len(), "nothing is sent before the answer");
            assert_eq!((request.path, request.origin), ("/ws/chat", Some("https://web.whatsapp.com")));
            self.stage = Stage::Intro;
            match &self.script.upgrade {
                _ if !self.script.answers_upgrade => {}
                Some(answer) => self.out.extend_from_slice(answer),
                None => ws::write_switching_protocols(&mut self.out, &accept),
            }
            return;
        }
        while let Some(message) = self.ws.next(&mut input).expect("a valid client") {
            match message {
                Message::Data(piece) => self.stream.extend_from_slice(piece),
                Message::Pong(_) => self.pongs += 1,
                Message::Close(code, _) => self.closes.push(code),
                other => panic!("{other:?}"),
            }
        }
        self.read_stream(unix_s);
    }

    fn read_stream(&mut self, unix_s: u64) {
        if matches!(self.stage, Stage::Intro) {
            if let Some(rest) = self.stream.strip_prefix(&frame::EDGE_ROUTING) {
                let len = usize::from(rest[2]);
                self.routing_info = Some(rest[3..3 + len].to_vec());
                self.stream.drain(..7 + len);
            }
            assert!(self.stream.starts_with(&PROLOGUE), "{:?}", self.stream);
            self.stream.drain(..4);
            self.stage = Stage::Hello;
        }
        while let Some(&[a, b, c]) = self.stream.first_chunk() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if self.stream.len() < 3 + len {
                return;
            }
            let mut frame: Vec<u8> = self.stream.drain(..3 + len).skip(3).collect();
            match &mut self.stage {
                Stage::Open(transport) => {
                    let plain = transport.open(&mut frame).expect("the client's frame opens");
                    let stanza = node::decode(plain, &mut node::Scratch::new(), &Limits::default())
                        .expect("a node")
                        .to_node();
                    self.on_stanza(stanza);
                }
                _ => self.on_handshake(&frame, unix_s),
            }
        }
    }

    fn on_handshake(&mut self, frame: &[u8], unix_s: u64) {
        let message = HandshakeMessage::decode(frame).expect("a handshake message");
        match std::mem::replace(&mut self.stage, Stage::Hello) {
            Stage::Hello if !self.script.answers_hello => {}
            Stage::Hello => self.on_hello(message, unix_s),
            Stage::Finish { mut state, ephemeral } => {
                let finish = message.client_finish.expect("a finish");
                let client = state.decrypt_and_hash(&finish.r#static.expect("static")).expect("opens");
                state.mix_key(&dh(&ephemeral, &key(&client)).expect("dh"));
                let payload = state.decrypt_and_hash(&finish.payload.expect("payload")).expect("opens");
                self.open(*state, &payload);
            }
            _ => panic!("a handshake message out of turn"),
        }
    }

    fn on_hello(&mut self, message: HandshakeMessage, unix_s: u64) {
        let hello = message.client_hello.expect("a hello");
        let client_ephemeral = key(&hello.ephemeral.expect("ephemeral"));
        let server_static = static_key();
        let ephemeral = KeyPair::from_secret([2; 32]);
        let mut state = match (&hello.r#static, self.script.resume) {
            (Some(sealed), Resume::Accept) => {
                let mut state = SymmetricState::new(Pattern::Ik);
                state.mix_hash(server_static.public());
                state.mix_hash(&client_ephemeral);
                state.mix_key(&dh(&server_static, &client_ephemeral).expect("dh"));
                let client = key(&state.decrypt_and_hash(sealed).expect("opens"));
                state.mix_key(&dh(&server_static, &client).expect("dh"));
                let payload = state.decrypt_and_hash(&hello.payload.expect("payload")).expect("opens");
                state.mix_hash(ephemeral.public());
                state.mix_key(&dh(&ephemeral, &client_ephemeral).expect("dh"));
                state.mix_key(&dh(&ephemeral, &client).expect("dh"));
                let sealed_chain = state.encrypt_and_hash(b"").expect("seals");
                self.send_hello(&ephemeral, None, sealed_chain);
                self.pattern = Some(Pattern::Ik);
                return self.open(state, &payload);
            }
            (Some(_), Resume::Silent) => return,
            (Some(_), Resume::Fallback) => {
                self.pattern = Some(Pattern::XxFallback);
                SymmetricState::new(Pattern::XxFallback)
            }
            _ => {
                self.pattern = Some(Pattern::Xx);
                SymmetricState::new(Pattern::Xx)
            }
        };
        state.mix_hash(&client_ephemeral);
        state.mix_hash(ephemeral.public());
        state.mix_key(&dh(&ephemeral, &client_ephemeral).expect("dh"));
        let sealed_static = state.encrypt_and_hash(server_static.public()).expect("seals");
        state.mix_key(&dh(&server_static, &client_ephemeral).expect("dh"));
        let sealed_chain = state.encrypt_and_hash(&self.chain(unix_s)).expect("seals");
        self.send_hello(&ephemeral, Some(sealed_static), sealed_chain);
        self.stage = Stage::Finish { state: Box::new(state), ephemeral };
    }

    fn send_hello(&mut self, ephemeral: &KeyPair, sealed_static: Option<Vec<u8>>, payload: Vec<u8>) {
        let hello = ServerHello {
            ephemeral: Some(ephemeral.public().to_vec()),
            r#static: sealed_static,
            payload: Some(payload),
        };
        let message = HandshakeMessage { server_hello: Some(hello), ..HandshakeMessage::default() };
        self.send_frame(&message.encode_to_vec());
    }

    fn chain(&self, unix_s: u64) -> Vec<u8> {
        let (from, to) = self.script.validity;
        let certificate = |serial, issuer, key: &KeyPair, signer: &[u8; 32]| {
            let details = CertDetails {
                serial: Some(serial),
                issuer_serial: Some(issuer),
                key: Some(key.public().to_vec()),
                not_before: Some(unix_s.saturating_add_signed(from)),
                not_after: Some(unix_s.saturating_add_signed(to)),
            }
            .encode_to_vec();
            let signature = runner_xeddsa::sign(signer, &details, &[1; 64]).to_vec();
            NoiseCertificate { details: Some(details), signature: Some(signature) }
        };
        let root = if self.script.is_trusted { ROOT } else { [1; 32] };
        CertChain {
            leaf: Some(certificate(9, 7, &static_key(), &INTERMEDIATE)),
            intermediate: Some(certificate(7, 0, &KeyPair::from_secret(INTERMEDIATE), &root)),
        }
        .encode_to_vec()
    }

    fn open(&mut self, state: SymmetricState, payload: &[u8]) {
        self.login = Some(ClientPayload::decode(payload).expect("a payload"));
        self.stage = Stage::Open(state.split(Role::Responder));
        if let Some(login) = self.script.login.clone() {
            let is_success = login.tag == "success";
            self.send(&login);
            if is_success && self.script.ends_backlog {
                self.send(&ib(Node::new("offline").attr("count", "0")));
            }
        }
    }

    fn on_stanza(&mut self, stanza: Node) {
        let attr = |key: &str| match stanza.find_attr(key) {
            Some(AttrValue::Str(text)) => text.clone(),
            Some(AttrValue::Jid(jid)) => jid.to_string(),
            None => String::new(),
        };
        let is_request = stanza.tag == "iq" && matches!(attr("type").as_str(), "get" | "set");
        let is_ping = is_request && attr("xmlns") == "w:p";
        self.pings += usize::from(is_ping);
        let has = |tag: &str| match &stanza.content {
            NodeContent::Nodes(children) => children.iter().any(|child| child.tag == tag),
            _ => false,
        };
        let answers = if is_ping {
            self.script.answers_pings
        } else {
            self.script.answers_requests
                && (self.script.answers_uploads || !has("list"))
                && (self.script.answers_rotations || !has("rotate"))
        };
        let answer = if is_request && answers { self.directory.answer(&stanza) } else { None };
        if let Some(answer) = answer {
            self.send(&answer);
        } else if is_request && answers {
            let result =
                Node::new("iq").attr_jid("from", server()).attr("type", "result").attr("id", attr("id"));
            let count = self.script.pre_key_count.filter(|_| has("count"));
            let error = |code: u32| {
                let error = Node::new("error").attr("code", code.to_string());
                let iq = Node::new("iq").attr_jid("from", server()).attr("type", "error");
                iq.attr("id", attr("id")).child(error)
            };
            self.send(&match (count, self.script.rotate_error) {
                (Some(count), _) => result.child(Node::new("count").attr("value", count.to_string())),
                (None, Some(code)) if has("rotate") => error(code),
                _ if has("digest") => match &self.script.digest {
                    Ok(digest) => result.child(digest.clone()),
                    Err(code) => error(*code),
                },
                _ => result,
            });
        }
        if stanza.tag == "message" && self.script.acknowledges_messages {
            self.send(
                &Node::new("ack").attr("class", "message").attr("id", attr("id")).attr("t", "1767225600"),
            );
        }
        if !is_ping {
            self.received.push(stanza);
        }
    }

    /// Sends one stanza.
    pub fn send(&mut self, stanza: &Node) {
        let mut plain = Vec::new();
        node::encode(stanza, &mut plain);
        self.send_plain(plain);
    }

    /// Sends one frame whose plaintext is this, well-formed or not.
    pub fn send_plain(&mut self, mut plain: Vec<u8>) {
        let Stage::Open(transport) = &mut self.stage else { panic!("not open") };
        transport.seal(&mut plain, 0).expect("seals");
        self.send_frame(&plain);
    }

    /// Sends one frame as it is, in a WebSocket message of its own.
    pub fn send_frame(&mut self, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, payload).expect("fits");
        ws::write_message(&mut self.out, Opcode::Binary, &bytes, None);
    }

    /// Stanzas from the client with this tag.
    pub fn received_with(&self, tag: &str) -> Vec<&Node> {
        self.received.iter().filter(|stanza| stanza.tag == tag).collect()
    }
}

fn key(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("32 bytes")
}

/// An attribute as text; empty when it is not there.
pub fn attr(stanza: &Node, key: &str) -> String {
    match stanza.find_attr(key) {
        Some(AttrValue::Str(text)) => text.clone(),
        Some(AttrValue::Jid(jid)) => jid.to_string(),
        None => String::new(),
    }
}
