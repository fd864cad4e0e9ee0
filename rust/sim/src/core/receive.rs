//! What the server does with a client's stanzas.

use std::sync::Arc;

use runner_proto::node::{Content, Limits, Node, NodeRef, Scratch, decode};
use serde_json::{Map, json};

use super::journal::Sent;
use super::owed::Settled;
use super::peer::Peer;
use super::stanza;
use super::world::{Cx, World};

/// Namespaces whose answer is a result with an empty container of this name.
const CONTAINERS: &[(&str, &str)] =
    &[("abt", "props"), ("w", "props"), ("privacy", "privacy"), ("blocklist", "list"), ("usync", "usync")];
/// Namespaces whose requests are taken without a word; whatever is not listed fails with 404.
const EMPTY_RESULTS: &[&str] = &[
    "passive",
    "urn:xmpp:whatsapp:dirty",
    "urn:xmpp:whatsapp:push",
    "urn:xmpp:whatsapp:account",
    "w:stats",
    "w:m",
    "w:g2",
    "w:biz",
    "w:mex",
    "w:sync:app:state",
    "w:profile:picture",
    "w:web",
    "status",
    "disappearing_mode",
    "newsletter",
    "tos",
    "fb:thrift_iq",
    "abprops",
];

/// Decodes a plaintext that this server encoded.
pub(super) fn decode_own(plain: &[u8]) -> Option<Node> {
    let mut scratch = Scratch::new();
    decode(plain, &mut scratch, &Limits::default()).ok().map(|node| node.to_node())
}

impl Peer {
    pub(super) fn handle_sealed(
        &mut self,
        frame: &mut [u8],
        world: &mut World,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let plain = transport.open(frame).map_err(|error| error.to_string())?;
        let mut scratch = std::mem::take(&mut world.scratch);
        let handled = match decode(plain, &mut scratch, &Limits::default()) {
            Ok(node) => {
                self.handle_stanza(node, world, cx);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        world.scratch = scratch;
        handled
    }

    fn handle_stanza(&mut self, node: NodeRef<'_>, world: &mut World, cx: &mut Cx<'_>) {
        let tag = node.tag().to_string();
        world.counters.by_tag.bump(&tag);
        let is_ping = tag == "iq" && node.attr("xmlns").is_some_and(|xmlns| xmlns == *"w:p");
        if !is_ping && world.settings.sent_capacity > 0 {
            world.sent.push(sent(self, &tag, node, cx));
        }
        match tag.as_str() {
            "iq" => self.handle_iq(node, world, cx),
            "ack" => self.handle_ack(node, world, cx),
            "receipt" => self.handle_receipt(node, world, cx),
            "message" => {
                let verdict = match self.shape.refuse_sends.filter(|code| *code > 0) {
                    Some(code) => Err(code),
                    None => self.device.map_or(Ok(None), |device| world.judge_in_group(device, node)),
                };
                self.acknowledge("message", node, &verdict, world, cx);
                match verdict {
                    Ok(None) => self.relay_message(node, world, cx),
                    Ok(Some(_)) => {
                        world.counters.stale_phashes += 1;
                        self.relay_message(node, world, cx);
                    }
                    Err(_) => world.counters.refused_messages += 1,
                }
            }
            "ib" => {
                if let Some(batch) = node.child("offline_batch") {
                    self.asks_batches = true;
                    let count = batch.attr("count").and_then(|count| count.parse_u64()).unwrap_or(0);
                    if !self.backlog.is_empty() {
                        self.send_backlog(usize::try_from(count).unwrap_or(usize::MAX), world, cx);
                    }
                }
            }
            _ => {}
        }
        self.go_on_with_backlog(world, cx);
    }

    fn handle_ack(&mut self, node: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        let class = text(node, "class");
        world.counters.acks += 1;
        if world.counters.first_ack_at == 0 {
            world.counters.first_ack_at = cx.unix_ms;
        }
        world.counters.last_ack_at = cx.unix_ms;
        world.counters.ack_by_class.bump(if class.is_empty() { "?" } else { &class });
        self.settle("ack", &class, &text(node, "id"), world);
    }

    fn handle_receipt(&mut self, node: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        world.counters.last_receipt_at = cx.unix_ms;
        // A retry receipt asks for the message again; the terminal answer is still to come.
        if text(node, "type") != "retry" {
            self.settle("receipt", "", &text(node, "id"), world);
            let listed = node.child("list").into_iter().flat_map(|list| list.children());
            for item in listed {
                self.settle("receipt", "", &text(item, "id"), world);
            }
        }
        self.acknowledge("receipt", node, &Ok(None), world, cx);
        self.relay_receipt(node, world, cx);
    }

    fn settle(&mut self, answer: &str, class: &str, id: &str, world: &mut World) {
        match self.owed.settle(answer, class, id, world.settings.answer_rule) {
            Settled::Yes => world.counters.answered += 1,
            // Receipts are also sent for other reasons (read, played), so only acks and results are suspicious.
            Settled::NotOwed if answer != "receipt" => world.counters.unexpected_answers += 1,
            Settled::NotOwed | Settled::StillOwed => {}
        }
    }

    /// `<ack class id from t/>` for a stanza of the client, with what there is to say: `phash`, or the `error` with which
    /// it is refused.
    fn acknowledge(
        &mut self,
        class: &str,
        node: NodeRef<'_>,
        verdict: &Result<Option<String>, u32>,
        world: &mut World,
        cx: &Cx<'_>,
    ) {
        if self.shape.mute_acks == Some(true) {
            return;
        }
        let unix_s = cx.unix_s();
        self.answer(world, cx, |w| {
            let (id, to) = (node.attr("id"), node.attr("to"));
            let more = usize::from(!matches!(verdict, Ok(None)));
            w.node("ack", 2 + usize::from(id.is_some()) + usize::from(to.is_some()) + more, false);
            w.attr("class", class);
            w.attr_u64("t", unix_s);
            match verdict {
                Ok(None) => {}
                Ok(Some(phash)) => w.attr("phash", phash),
                Err(code) => w.attr_u64("error", u64::from(*code)),
            }
            if let Some(id) = id {
                w.attr_value("id", id);
            }
            if let Some(to) = to {
                w.attr_value("from", to);
            }
        });
    }

    // ------------------------------------------------------------------ iq

    fn handle_iq(&mut self, node: NodeRef<'_>, world: &mut World, cx: &mut Cx<'_>) {
        let kind = text(node, "type");
        if kind == "result" || kind == "error" {
            self.settle("iq", "iq", &text(node, "id"), world);
            return self.on_device_answer(node, world, cx);
        }
        let xmlns = text(node, "xmlns");
        world.counters.iq_by_xmlns.bump(if xmlns.is_empty() { "?" } else { &xmlns });
        if xmlns == "w:p" {
            world.counters.pings += 1;
            self.note_ping(cx.unix_ms);
        }
        let shape = Arc::clone(&self.shape);
        let mute = shape.mute.as_deref().unwrap_or_default();
        if mute.iter().any(|muted| muted == "*" || *muted == xmlns) {
            world.counters.iqs_muted += 1;
            return;
        }
        let child = node.children().next();
        let child_tag = child.map(|child| child.tag().to_string()).unwrap_or_default();
        match (xmlns.as_str(), child_tag.as_str()) {
            ("w:p", _) => self.result(node, world, cx, None),
            ("encrypt", "count") => {
                let left = self.device.and_then(|device| world.pre_keys_left(device));
                let value =
                    left.map_or_else(|| world.settings.pre_key_count.to_string(), |left| left.to_string());
                self.result(node, world, cx, Some(Node::new("count").attr("value", value)));
            }
            ("encrypt", "digest") => match self.device.and_then(|device| world.digest(device)) {
                Some(digest) => self.result(node, world, cx, Some(digest)),
                None => self.error(node, 404, "item-not-found", world, cx),
            },
            ("encrypt", "rotate") => {
                let refused = match (self.device, child, world.settings.rotate_error) {
                    (Some(device), Some(rotate), 0) => world.rotate(device, rotate).err(),
                    (.., 0) => Some(400),
                    (.., code) => Some(code),
                };
                match refused {
                    None => self.result(node, world, cx, None),
                    Some(code) => self.error(node, code, "not-acceptable", world, cx),
                }
            }
            ("encrypt", "key") => {
                let list = child.map(|child| world.bundles(child, cx.unix_s()));
                self.result(node, world, cx, list);
            }
            ("encrypt", _) => {
                let uploads = kind == "set" && node.child("identity").is_some();
                self.uploaded_bundle |=
                    uploads && self.device.is_some_and(|device| world.take_pre_keys(device, node));
                self.result(node, world, cx, None);
            }
            ("passive", "active") => {
                self.result(node, world, cx, None);
                self.begin_backlog(world, cx);
            }
            ("md", "link_code_companion_reg") => {
                if let Some(reg) = child {
                    self.on_link_code(node, reg, world, cx);
                }
            }
            ("md", "remove-companion-device") => self.log_out(node, world, cx),
            ("w:g2", "query") => self.on_group_query(node, world, cx),
            ("usync", _) => {
                let answer = child.map(|child| world.usync(child));
                self.result(node, world, cx, answer);
            }
            ("privacy", _) if kind == "set" => self.result(node, world, cx, None),
            (name, _) => match CONTAINERS.iter().find(|(xmlns, _)| *xmlns == name) {
                Some((_, container)) => self.result(node, world, cx, Some(Node::new(*container))),
                None if EMPTY_RESULTS.contains(&name) => self.result(node, world, cx, None),
                None => self.error(node, 404, "item-not-found", world, cx),
            },
        }
    }

    pub(super) fn result(
        &mut self,
        request: NodeRef<'_>,
        world: &mut World,
        cx: &Cx<'_>,
        child: Option<Node>,
    ) {
        let unix_s = cx.unix_s();
        if let Some(child) = child {
            let result = reply(request, "result").attr("t", unix_s.to_string()).child(child);
            return self.answer_node(&result, world, cx);
        }
        // The answer to a ping is most of what an idle fleet is told: written without building a tree.
        self.answer(world, cx, |w| {
            let id = request.attr("id");
            w.node("iq", 3 + usize::from(id.is_some()), false);
            w.attr_jid("from", &stanza::server_jid());
            w.attr("type", "result");
            if let Some(id) = id {
                w.attr_value("id", id);
            }
            w.attr_u64("t", unix_s);
        });
    }

    pub(super) fn error(
        &mut self,
        request: NodeRef<'_>,
        code: u32,
        what: &str,
        world: &mut World,
        cx: &Cx<'_>,
    ) {
        let child = Node::new("error").attr("code", code.to_string()).attr("text", what);
        self.answer_node(&reply(request, "error").child(child), world, cx);
    }

    /// The client unlinks itself: its device is known no longer.
    fn log_out(&mut self, node: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        self.result(node, world, cx, None);
        if let Some(account) = self.device.and_then(|device| world.accounts.get_mut(&device)) {
            account.unlinked = true;
        }
        world.counters.logouts += 1;
        world.note(cx.unix_ms, "logout", self.id, self.username(), &[]);
        let gone = stanza::conflict(Some(401), "device_removed");
        self.goodbye(&gone, world, cx);
    }
}

/// An iq that answers another.
fn reply(request: NodeRef<'_>, kind: &str) -> Node {
    let reply = Node::new("iq").attr_jid("from", stanza::server_jid()).attr("type", kind);
    match request.attr("id") {
        Some(id) => reply.attr("id", id.to_string()),
        None => reply,
    }
}

/// The text of an attribute, empty when it is not there.
pub(super) fn text(node: NodeRef<'_>, key: &str) -> String {
    node.attr(key).map(|value| value.to_string()).unwrap_or_default()
}

fn sent(peer: &Peer, tag: &str, node: NodeRef<'_>, cx: &Cx<'_>) -> Sent {
    let attrs: Map<_, _> =
        node.attrs().map(|(key, value)| (key.to_string(), json!(value.to_string()))).collect();
    let child = match node.content() {
        Content::Nodes(mut children) => children.next().map(|child| child.tag().to_string()),
        _ => None,
    };
    Sent {
        t: cx.unix_ms,
        sid: peer.id,
        user: peer.username().map(|user| user.to_string()).unwrap_or_default(),
        tag: tag.to_owned(),
        attrs,
        child,
    }
}
