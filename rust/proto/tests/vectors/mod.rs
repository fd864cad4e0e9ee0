//! The golden vectors of the node codec, made by driving real Baileys (tests/vectors/README.md).

// Each test crate uses its own part of this.
#![allow(dead_code)]

pub(crate) mod shapes;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use runner_proto::jid::Jid;
use runner_proto::node::{AttrValue, Content, Limits, Node, NodeContent, NodeRef, Scratch, decode};
use serde::Deserialize as _;
use serde_json::{Map, Value};

/// One line of the file.
pub(crate) struct Vector {
    pub(crate) id: String,
    pub(crate) category: String,
    pub(crate) node: Option<Value>,
    /// What decoding gives; `Some(Null)` when Baileys cannot read back what it wrote.
    pub(crate) decoded: Option<Value>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_decode_only: bool,
    pub(crate) is_error: bool,
    pub(crate) is_quirk: bool,
}

/// The repository's `tests/vectors/` file of that name.
#[allow(clippy::disallowed_methods, reason = "a test reads files, the library does not")]
pub(crate) fn read(name: &str) -> String {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a file of tests/vectors")
}

/// All vectors, in the order of the file.
pub(crate) fn all() -> Vec<Vector> {
    read("vectors.jsonl").lines().map(parse).collect()
}

fn parse(line: &str) -> Vector {
    // Some nodes are nested more deeply than serde_json allows by itself.
    let mut reader = serde_json::Deserializer::from_str(line);
    reader.disable_recursion_limit();
    let mut json = Map::deserialize(&mut reader).expect("an object a line");
    let hex = json["hex"].as_str().expect("hex").to_owned();
    Vector {
        id: json["id"].as_str().expect("id").to_owned(),
        category: json["cat"].as_str().expect("cat").to_owned(),
        node: json.remove("node").filter(|node| !node.is_null()),
        bytes: (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect(),
        decoded: json.remove("decoded"),
        is_decode_only: json.contains_key("decode_only"),
        is_error: json.contains_key("error"),
        is_quirk: json.contains_key("quirk"),
    }
}

/// The node to encode: what looks like a JID is one, as for callers who have only text.
pub(crate) fn to_node(json: &Value) -> Node {
    let mut node = Node::new(json["tag"].as_str().expect("tag"));
    for (key, value) in json["attrs"].as_object().expect("attrs") {
        let text = value.as_str().expect("a string");
        let value = Jid::recognise(text).map_or_else(|| AttrValue::from(text), AttrValue::from);
        node = node.attr(key.as_str(), value);
    }
    node.content = match (json.get("content"), json.get("content_b64")) {
        (_, Some(base64)) => NodeContent::Bytes(bytes(base64)),
        (Some(Value::Array(children)), _) => NodeContent::Nodes(children.iter().map(to_node).collect()),
        (Some(Value::String(text)), _) => match Jid::recognise(text) {
            Some(jid) => NodeContent::Jid(jid),
            None => NodeContent::Text(text.clone()),
        },
        _ => NodeContent::None,
    };
    node
}

fn bytes(base64: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(base64.as_str().expect("base64")).expect("base64")
}

/// A decoded node in the form of the vectors.
pub(crate) fn to_json(node: NodeRef<'_>) -> Value {
    let attrs: Map<String, Value> =
        node.attrs().map(|(key, value)| (key.to_string(), Value::from(value.to_string()))).collect();
    let mut json = Map::from_iter([
        ("tag".to_owned(), Value::from(node.tag().to_string())),
        ("attrs".to_owned(), Value::Object(attrs)),
    ]);
    match node.content() {
        Content::None => None,
        Content::Nodes(children) => json.insert("content".into(), children.map(to_json).collect()),
        Content::Bytes(bytes) => json.insert("content_b64".into(), BASE64_STANDARD.encode(bytes).into()),
        Content::Text(text) => json.insert("content".into(), text.to_string().into()),
    };
    Value::Object(json)
}

/// Decodes with default limits, or says why not.
pub(crate) fn decode_json(plain: &[u8]) -> Result<Value, String> {
    let mut scratch = Scratch::new();
    decode(plain, &mut scratch, &Limits::default()).map(to_json).map_err(|error| error.to_string())
}

/// The same with every content as bytes: the wire has one form for both, and encoders choose.
pub(crate) fn content_as_bytes(mut json: Value) -> Value {
    if let Some(content) = json.as_object_mut().and_then(|node| node.remove("content")) {
        match content {
            Value::Array(children) => json["content"] = children.into_iter().map(content_as_bytes).collect(),
            Value::String(text) => json["content_b64"] = BASE64_STANDARD.encode(text).into(),
            other => panic!("content {other}"),
        }
    }
    json
}
