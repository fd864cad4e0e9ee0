//! What is read from stanzas, and what is written into them.

use runner_proto::{
    answer,
    jid::Jid,
    node::{self, Content as NodeContent, Limits, NodeRef, Scratch, Writer},
};

use crate::Write;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The id of `<unified_session>`: where the server's clock is in a week that begins three days earlier.
/// docs/protocol.md, "After login".
pub(crate) fn unified_session_id(unix_ms: u64, offset_ms: i64) -> u64 {
    let server_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX).saturating_add(offset_ms);
    server_ms.saturating_add(3 * DAY_MS).rem_euclid(7 * DAY_MS).unsigned_abs()
}

/// The name of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The stanza's `from` without device, or its `recipient` when an own other device sent it.
    pub(crate) chat: String,
    /// The stanza's `participant`, else its `from`.
    pub(crate) sender: String,
    /// The stanza's `id`.
    pub(crate) message_id: String,
}

/// The name of a message. `None` when it has no id or no sender.
pub(crate) fn names(message: NodeRef<'_>) -> Option<Names> {
    let text = |key| message.attr(key).map(|value| value.to_string());
    let from = text("from")?;
    let sender = text("participant").unwrap_or_else(|| from.clone());
    // From an own other device: the chat is the one it wrote to.
    let chat = without_device(text("recipient").unwrap_or(from));
    Some(Names { chat, sender, message_id: text("id")? })
}

/// The encoded stanza without what is in its `<enc>` and `<plaintext>`: that is stored beside it once it was read.
pub(crate) fn without_ciphertexts(message: NodeRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    copy(&mut Writer::new(&mut out), message);
    out
}

fn copy(writer: &mut Writer<'_>, node: NodeRef<'_>) {
    let tag = node.tag();
    let content = if tag == "enc" || tag == "plaintext" { NodeContent::None } else { node.content() };
    writer.node(&tag.to_cow(), node.attr_count(), !matches!(content, NodeContent::None));
    for (key, value) in node.attrs() {
        writer.attr_value(&key.to_cow(), value);
    }
    match content {
        NodeContent::None => {}
        NodeContent::Bytes(bytes) => writer.bytes(bytes),
        NodeContent::Text(value) => writer.value(value),
        // As deep as the decoder lets a node be.
        NodeContent::Nodes(children) => {
            writer.children(children.len());
            children.for_each(|child| copy(writer, child));
        }
    }
}

/// A chat is with a user, whichever device wrote.
fn without_device(jid: String) -> String {
    match jid.parse::<Jid>() {
        Ok(parsed) if parsed.device != 0 => parsed.to_non_ad().to_string(),
        _ => jid,
    }
}

/// The encoded `<ack>` of a message, to be sent when it is durable.
pub(crate) fn message_ack(message: NodeRef<'_>, own: &Jid) -> Vec<u8> {
    let mut ack = Vec::with_capacity(96);
    answer::write_ack(&mut Writer::new(&mut ack), message, Some(own), None);
    ack
}

/// What is kept of a message that does not decode. `None` when it has no id or no sender.
pub(crate) fn dead_letter(head: NodeRef<'_>, plain: &[u8], received_unix_ms: u64) -> Option<Write> {
    let text = |key| head.attr(key).map(|value| value.to_string());
    let (sender, message_id) = (text("from")?, text("id")?);
    Some(Write::DeadLetter { sender, message_id, frame: plain.to_vec(), received_unix_ms })
}

/// The encoded refusal of a message that does not decode.
pub(crate) fn message_nack(head: NodeRef<'_>) -> Vec<u8> {
    let mut nack = Vec::with_capacity(96);
    answer::write_ack(&mut Writer::new(&mut nack), head, None, Some(answer::nack::PARSING_ERROR));
    nack
}

/// The id of an encoded `<message>`, whose acknowledgement is to be waited for; `None` for any other stanza.
pub(crate) fn message_id(plain: &[u8]) -> Option<Box<str>> {
    let mut scratch = Scratch::new();
    let stanza = node::decode(plain, &mut scratch, &Limits::default()).ok()?;
    if stanza.tag() != "message" {
        return None;
    }
    Some(stanza.attr("id")?.to_string().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_session_id_wraps_after_a_week_and_follows_the_servers_clock() {
        assert_eq!(unified_session_id(0, 0), 3 * DAY_MS as u64);
        assert_eq!(unified_session_id(4 * DAY_MS as u64 - 1, 0), 7 * DAY_MS as u64 - 1);
        assert_eq!(unified_session_id(4 * DAY_MS as u64, 0), 0);
        assert_eq!(unified_session_id(0, -3 * DAY_MS), 0);
        assert_eq!(unified_session_id(0, -3 * DAY_MS - 1), 7 * DAY_MS as u64 - 1);
    }
}
