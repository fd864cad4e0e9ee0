//! Which stanza is owed which answer.
//!
//! Rule: every inbound stanza that expects an answer gets exactly one terminal answer per connection, also when it is
//! unknown or malformed; the server ends the stream after some 50 minutes for one that is left unanswered.
//!
//! [`TABLE`] is docs/protocol.md, "Answers", and the only place that knows it.

use crate::{
    jid::Jid,
    node::{NodeRef, Value, Writer},
};

/// What a stanza expects of whoever receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// Nothing: it is itself an answer, or it ends the stream, or it is mere news.
    Nothing,
    /// `<ack>`, at once.
    Ack,
    /// `<ack>`, once its content is durable.
    AckWhenDurable,
    /// As a request, a result or an error; as a result or an error, nothing.
    IqAnswer,
    /// `<ack error=488>`: nobody here knows this tag.
    Nack,
}

/// The tags with an entry of their own; all others are [`Expects::Nack`].
pub const TABLE: &[(&str, Expects)] = &[
    ("message", Expects::AckWhenDurable),
    ("receipt", Expects::Ack),
    ("notification", Expects::Ack),
    ("call", Expects::Ack),
    ("iq", Expects::IqAnswer),
    ("ack", Expects::Nothing),
    ("ib", Expects::Nothing),
    ("presence", Expects::Nothing),
    ("chatstate", Expects::Nothing),
    ("success", Expects::Nothing),
    ("failure", Expects::Nothing),
    ("stream:error", Expects::Nothing),
    ("xmlstreamend", Expects::Nothing),
];

/// What a stanza with this tag expects.
#[must_use]
pub fn expects(tag: impl PartialEq<str>) -> Expects {
    TABLE.iter().find(|(known, _)| tag == **known).map_or(Expects::Nack, |&(_, expects)| expects)
}

/// The numbers that say why a stanza is refused. docs/protocol.md, "Answers".
pub mod nack {
    /// The stanza does not parse.
    pub const PARSING_ERROR: u16 = 487;
    /// Nobody here knows this tag.
    pub const UNRECOGNISED_STANZA: u16 = 488;
    /// The message was opened and is none.
    pub const INVALID_PROTOBUF: u16 = 491;
    /// It is encrypted with a secret that this device was not given.
    pub const MISSING_MESSAGE_SECRET: u16 = 495;
}

/// Whether a stanza has the `id` and the `from` that an `<ack>` needs.
#[must_use]
pub fn is_addressable(stanza: NodeRef<'_>) -> bool {
    stanza.attr("id").is_some() && stanza.attr("from").is_some()
}

/// The attributes of a stanza that its `<ack>` repeats, when it has them.
const REPEATED: [&str; 3] = ["participant", "recipient", "type"];

/// Writes the `<ack>` of a stanza: `class` is its tag, `to` its sender; an `error` makes it a nack.
///
/// `own` is the own JID, which the ack of a message names as its sender; None for the others. Writes nothing when the
/// stanza is not [addressable](is_addressable).
pub fn write_ack(writer: &mut Writer<'_>, stanza: NodeRef<'_>, own: Option<&Jid>, error: Option<u16>) {
    let (Some(id), Some(from)) = (stanza.attr("id"), stanza.attr("from")) else { return };
    let repeated = REPEATED.map(|key| stanza.attr(key).map(|value| (key, value)));
    let attrs =
        3 + repeated.iter().flatten().count() + usize::from(own.is_some()) + usize::from(error.is_some());
    writer.node("ack", attrs, false);
    writer.attr_value("id", id);
    writer.attr_value("class", Value::Str(stanza.tag()));
    writer.attr_value("to", from);
    for (key, value) in repeated.into_iter().flatten() {
        writer.attr_value(key, value);
    }
    if let Some(own) = own {
        writer.attr_jid("from", own);
    }
    if let Some(error) = error {
        writer.attr_u64("error", u64::from(error));
    }
}
