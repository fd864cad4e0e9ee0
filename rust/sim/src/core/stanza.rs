//! The stanzas that this server sends, apart from answers.

use runner_proto::jid::{Jid, Server};
use runner_proto::node::{Node, NodeContent};
use serde_json::{Map, Value};

use super::command::{JsonContent, JsonNode};
use super::fleet::lid_user;
use super::world::DeviceId;

/// What routing info we hand out: opaque to clients.
pub(super) const ROUTING_INFO: [u8; 4] = [0x08, 0x02, 0x08, 0x05];

/// The peer that templates come from, and the time that they carry.
const PEER: &str = "15550001111";
const OLD: &str = "1700000000";
/// The name of the server as a JID.
const SERVER: &str = "s.whatsapp.net";

/// The server's own JID: no user.
pub(super) fn server_jid() -> Jid {
    Jid::server(Server::Pn)
}

/// The LID of a device, with its number.
pub(super) fn lid((username, device): DeviceId) -> Jid {
    Jid::device(lid_user(username), u16::try_from(device).unwrap_or(u16::MAX), Server::Lid)
}

/// `<success>`.
pub(super) fn success(device: DeviceId, unix_s: u64) -> Node {
    Node::new("success")
        .attr("t", unix_s.to_string())
        .attr("props", "27")
        .attr("location", "cln")
        .attr_jid("lid", lid(device))
        .attr("creation", unix_s.to_string())
        .attr("abprops", "2")
}

/// `<failure>` with further attributes.
pub(super) fn failure(reason: u32, attrs: &Map<String, Value>) -> Node {
    let node = Node::new("failure").attr("reason", reason.to_string()).attr("location", "cln");
    with_attrs(node, attrs)
}

/// `<stream:error>` with a code, a child, both or neither.
pub(super) fn stream_error(code: Option<u32>, child: Option<&str>, child_attrs: &Map<String, Value>) -> Node {
    let mut node = Node::new("stream:error");
    if let Some(code) = code {
        node = node.attr("code", code.to_string());
    }
    match child {
        Some(child) => node.child(with_attrs(Node::new(child), child_attrs)),
        None => node,
    }
}

/// `<stream:error><conflict type=…/></stream:error>`.
pub(super) fn conflict(code: Option<u32>, kind: &str) -> Node {
    let attrs = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    stream_error(code, Some("conflict"), &attrs)
}

/// `<ib from=S>` around a child.
pub(super) fn ib(child: Node) -> Node {
    Node::new("ib").attr_jid("from", server_jid()).child(child)
}

/// The announcement of a backlog.
pub(super) fn offline_preview(messages: usize, others: usize) -> Node {
    ib(Node::new("offline_preview")
        .attr("count", (messages + others).to_string())
        .attr("message", messages.to_string())
        .attr("receipt", "0")
        .attr("notification", others.to_string())
        .attr("appdata", "0"))
}

/// The end of a backlog.
pub(super) fn offline(count: usize) -> Node {
    ib(Node::new("offline").attr("count", count.to_string()))
}

/// What a client puts in front of its next connection.
pub(super) fn edge_routing() -> Node {
    ib(Node::new("edge_routing").child(Node::new("routing_info").bytes(ROUTING_INFO.to_vec())))
}

/// Account data that a client should clean.
pub(super) fn dirty(unix_s: u64) -> Node {
    ib(Node::new("dirty").attr("type", "account_sync").attr("timestamp", unix_s.to_string()))
}

/// The reference server's templates: what can be pushed without writing a node.
pub(super) fn template(name: &str) -> Option<Node> {
    let peer = || Jid::new(PEER, Server::Pn);
    Some(match name {
        "receipt" => Node::new("receipt")
            .attr_jid("from", peer())
            .attr("id", "$ID")
            .attr("t", OLD)
            .attr("type", "read"),
        "notification" => Node::new("notification")
            .attr_jid("from", peer())
            .attr("id", "$ID")
            .attr("t", OLD)
            .attr("type", "picture")
            .child(Node::new("set").attr_jid("jid", peer()).attr("id", OLD)),
        "ib" => Node::new("ib")
            .attr_jid("from", server_jid())
            .attr("id", "$ID")
            .child(Node::new("thread_metadata")),
        // A newsletter's message is not encrypted: the E2E message `{conversation: "hello"}`.
        "message" => Node::new("message")
            .attr_jid("from", Jid::new("120363000000000001", Server::Newsletter))
            .attr("type", "text")
            .attr("id", "$ID")
            .attr("t", OLD)
            .attr("server_id", "101")
            .child(Node::new("plaintext").bytes(b"\x0a\x05hello".to_vec())),
        // What a client without decryption stores: ciphertext that nobody can open.
        "ciphertext" => Node::new("message")
            .attr_jid("from", peer())
            .attr("type", "text")
            .attr("id", "$ID")
            .attr("t", OLD)
            .attr("notify", "Peer")
            .child(Node::new("enc").attr("v", "2").attr("type", "msg").bytes(vec![0x33; 96])),
        "call" => {
            Node::new("call").attr_jid("from", peer()).attr("id", "$ID").attr("t", OLD).child(
                Node::new("offer").attr("call-id", "0123456789ABCDEF").attr_jid("call-creator", peer()),
            )
        }
        "ping" => Node::new("iq")
            .attr_jid("from", server_jid())
            .attr("type", "get")
            .attr("xmlns", "urn:xmpp:ping")
            .attr("id", "$ID")
            .child(Node::new("ping")),
        _ => return None,
    })
}

/// A node as the control port writes it.
pub(super) fn from_json(json: &JsonNode) -> Result<Node, String> {
    if json.tag.is_empty() {
        return Err("a node needs a tag".to_owned());
    }
    let mut node = with_attrs(Node::new(json.tag.as_str()), &json.attrs);
    node.content = match (&json.content_b64, &json.content) {
        (Some(bytes), _) => {
            use base64::Engine as _;
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(bytes).map_err(|error| error.to_string())?;
            NodeContent::Bytes(bytes)
        }
        (None, Some(JsonContent::Nodes(nodes))) => {
            NodeContent::Nodes(nodes.iter().map(from_json).collect::<Result<_, _>>()?)
        }
        (None, Some(JsonContent::Text(text))) => NodeContent::Text(text.clone()),
        (None, None) => NodeContent::None,
    };
    Ok(node)
}

/// Adds attributes; a value that is written like a JID travels as one.
fn with_attrs(mut node: Node, attrs: &Map<String, Value>) -> Node {
    for (key, value) in attrs {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        let address = match text.as_str() {
            SERVER => Some(server_jid()),
            other if other.contains('@') => Jid::recognise(other),
            _ => None,
        };
        node = match address {
            Some(address) => node.attr_jid(key.as_str(), address),
            None => node.attr(key.as_str(), text),
        };
    }
    node
}

/// The text of an attribute of a tree, if it is there.
pub(super) fn attr_text(node: &Node, key: &str) -> Option<String> {
    node.find_attr(key).map(ToString::to_string)
}

/// Sets an attribute, in place of one that is there.
pub(super) fn set_attr(node: &mut Node, key: &str, value: &str) {
    node.attrs.retain(|(name, _)| name != key);
    node.attrs.push((key.to_owned(), value.to_owned().into()));
}
