//! What goes down: stanzas are written straight into the output buffer, sealed and masked where they lie.

use super::{Channel, Io, Ping, Session};
use crate::{
    close_reason::{CloseReason, Closed},
    entropy::Entropy,
    frame::{self, FrameError},
    iq::IdText,
    jid::{Jid, Server},
    node::Writer,
    ws::{self, Opcode},
};

/// A request to the server, as [`Session::request`] writes it; its child is written by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The namespace.
    pub xmlns: &'static str,
    /// Whether it changes something (`set`) or asks (`get`).
    pub is_set: bool,
    /// What the asker calls it; comes back with the answer or the expiry.
    pub purpose: u8,
}

/// Most bytes of a stanza, flag byte in front: the frame's limit without the headers that go in front of it.
pub const MAX_PLAIN: usize = frame::MAX_FRAME - ws::HEADER_ROOM - frame::HEADER_LEN;

/// The server itself, as a sender or receiver.
pub(super) const SERVER: Jid = Jid::server(Server::Pn);

/// A fresh masking key (RFC 6455 §5.3).
pub(super) fn mask(entropy: &mut dyn Entropy) -> [u8; 4] {
    entropy.u32().to_be_bytes()
}

impl Session {
    /// Sends one stanza. `write` gets a writer that has written nothing yet. Nothing is sent before the login is on
    /// its way or after the end, nor is a stanza above [`frame::MAX_FRAME`].
    pub fn send(&mut self, io: &mut Io<'_>, write: impl FnOnce(&mut Writer<'_>)) {
        self.send_plain(io, |out| write(&mut Writer::new(out)));
    }

    /// Whether a stanza of that many encoded bytes can be sent; a longer one never arrives anywhere.
    #[must_use]
    pub const fn fits(plain_len: usize) -> bool {
        plain_len <= MAX_PLAIN
    }

    /// Sends one stanza that is already encoded, flag byte in front.
    pub fn send_encoded(&mut self, io: &mut Io<'_>, plain: &[u8]) {
        self.send_plain(io, |out| out.extend_from_slice(plain));
    }

    /// Sends an iq and remembers it until it is answered or expires.
    ///
    /// `children` says how many nodes `write` writes. Returns the number that comes back in [`Pending`]; 0, which is
    /// nobody's, when nothing can be sent.
    ///
    /// [`Pending`]: crate::iq::Pending
    pub fn request(
        &mut self,
        io: &mut Io<'_>,
        request: Request,
        children: usize,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> u32 {
        self.request_to(io, request, &SERVER, children, write)
    }

    /// As [`request`](Self::request), of somebody else than the server itself.
    pub fn request_to(
        &mut self,
        io: &mut Io<'_>,
        request: Request,
        to: &Jid,
        children: usize,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> u32 {
        if !matches!(self.channel, Channel::Open { .. }) {
            return 0;
        }
        let number = self.ids.next_number();
        let id = self.ids.text(number);
        self.send(io, |writer| {
            let kind = if request.is_set { "set" } else { "get" };
            write_iq(writer, &id, request.xmlns, kind, to, children > 0);
            if children > 0 {
                writer.children(children);
                write(writer);
            }
        });
        self.requests.insert(number, request.purpose, io.now, self.config.query_timeout);
        self.counters.requests_sent += 1;
        number
    }

    /// Sends a keep-alive ping: `w:p` without a child, as the web client does.
    pub(super) fn send_ping(&mut self, io: &mut Io<'_>) {
        let number = self.ids.next_number();
        let id = self.ids.text(number);
        if let Some(clock) = &mut self.clock {
            clock.on_ping(io.now);
        }
        self.send(io, |writer| write_iq(writer, &id, "w:p", "get", &SERVER, false));
        let [_, newer] = self.pings;
        self.pings = [newer, Some(Ping { number, sent: io.now })];
        self.counters.pings_sent += 1;
    }

    /// Sends one WebSocket message with what `write` appends: the part of the connection that is not encrypted yet.
    pub(super) fn send_message(
        &mut self,
        io: &mut Io<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
    ) {
        let start = io.out.len();
        io.out.resize(start + ws::HEADER_ROOM, 0);
        if write(io.out).is_err() {
            // Only a login payload of 16 MiB gets here.
            io.out.truncate(start);
            return self.finish(Closed::new(CloseReason::HandshakeFailed, self.phase), io);
        }
        self.send_from(io, start);
    }

    /// Seals what `write` appends, in one frame and one WebSocket message.
    fn send_plain(&mut self, io: &mut Io<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        const ROOM: usize = ws::HEADER_ROOM + frame::HEADER_LEN;
        let Channel::Open { transport, .. } = &mut self.channel else { return };
        let start = io.out.len();
        io.out.resize(start + ROOM, 0);
        write(io.out);
        if io.out.len() - start > frame::MAX_FRAME {
            // `fits` would have said so; of our own stanzas none comes near.
            return io.out.truncate(start);
        }
        let sealed = transport.seal(io.out, start + ROOM);
        let header = frame::header(io.out.len() - start - ROOM);
        let (Ok(()), Some(header)) = (sealed, header) else {
            io.out.truncate(start);
            return self.finish(Closed::new(CloseReason::NonceExhausted, self.phase), io);
        };
        if let Some(slot) = io.out.get_mut(start + ws::HEADER_ROOM..start + ROOM) {
            slot.copy_from_slice(&header);
        }
        self.send_from(io, start);
    }

    /// Makes `out[start..]`, room in front, one WebSocket message.
    fn send_from(&mut self, io: &mut Io<'_>, start: usize) {
        ws::finish_message(io.out, start, Opcode::Binary, Some(mask(io.entropy)));
        self.counters.frames_sent += 1;
        self.counters.bytes_sent += (io.out.len() - start) as u64;
        if let Some(clock) = &mut self.clock {
            clock.on_send(io.now);
        }
    }
}

/// `<iq id xmlns type to=s.whatsapp.net>`, with a content to follow or not.
fn write_iq(writer: &mut Writer<'_>, id: &IdText, xmlns: &str, kind: &str, to: &Jid, has_content: bool) {
    writer.node("iq", 4, has_content);
    writer.attr("id", id.as_str());
    writer.attr("xmlns", xmlns);
    writer.attr("type", kind);
    writer.attr_jid("to", to);
}
