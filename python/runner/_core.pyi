"""The boundary between Python (decides) and Rust (does). Documented here and nowhere else.

Rules (docs/boundary.md): commands enqueue and return; what the network does arrives as an `Event`;
the caller's misuse raises; enums cross as stable slugs; times are seconds as `float` or Unix milliseconds
as `int`.
"""

from os import PathLike
from pathlib import Path
from typing import Final, final

BUILD_INFO: Final[dict[str, str]]
"""What was compiled: `version`, `profile`, `rustc`, `target`, `source_digest` (of the Rust sources)."""

class StoreError(Exception):
    """The store refused or failed. `args` is `(slug, message)`; the message says what the operator can do.

    Slugs: locked, newer_schema, damaged, disk_full, io, exists, unknown_session, closed.
    """

class EngineClosedError(Exception):
    """A call after `shutdown()` finished: the caller's bug."""

class EngineFullError(Exception):
    """No room for what was asked for: nothing was done. Drain, and ask again in a moment."""

@final
class StoredSession:
    """One session as the store knows it."""

    @property
    def session_id(self) -> str: ...
    @property
    def jid(self) -> str | None:
        """Own phone-number JID with device, e.g. `15550001111:3@s.whatsapp.net`; None before pairing."""
    @property
    def lid(self) -> str | None: ...
    @property
    def policy(self) -> str | None:
        """The JSON last given to `put_policy`, or None."""
    @property
    def archived(self) -> bool: ...
    @property
    def quarantined(self) -> str | None:
        """Why the credentials cannot be used, or None."""
    @property
    def imported_at_unix_ms(self) -> int: ...

@final
class InboxMessage:
    """One inbound `<message>` as it was committed, not yet confirmed by `done`.

    It has a `content`, or a `failure` that says why not. A message that could not be read is given once;
    when its sender has sent it again and it was read, it is given anew, with a higher `seq`.
    """

    @property
    def seq(self) -> int: ...
    @property
    def session_id(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def is_own(self) -> bool:
        """The sender is the account that the session has now, by its number or its LID."""
    @property
    def message_id(self) -> str: ...
    @property
    def stanza(self) -> bytes:
        """The stanza, flag byte in front; `runner.wire.decode_node` reads it.

        Its `<enc>` are empty when there is a `content`, else they hold their ciphertexts.
        """
    @property
    def content(self) -> bytes | None:
        """The serialized `Message` (a protobuf), decrypted and without padding; `MessageView` reads it."""
    @property
    def kind(self) -> str | None:
        """What the content is, a kind of `MessageView`; None without content."""
    @property
    def failure(self) -> str | None:
        """Why there is no content; None when there is.

        no_session, bad_mac, unknown_pre_key, unknown_signed_pre_key, too_far_ahead, no_sender_key,
        bad_signature, malformed, record: the sender is asked again. bad_padding, unsupported, unavailable,
        empty: it is not. key_gone: its key was used or dropped, and nothing of its name was read: it is.
        With content and failure both None an earlier version kept it; it is decrypted at
        the session's next login.
        """
    @property
    def received_unix_ms(self) -> int: ...

@final
class MessageView:
    """What is in a message, its wrappers taken off (ephemeral, view once, edited, of an own other device).

    kinds: text, image, video, audio, document, sticker, contact, contacts, location, live_location,
    reaction, edit, revoke, poll, poll_vote, choice (a button or a row of a list), group_invite, protocol
    (between devices: key shares, history), key_distribution, unknown (read the bytes).
    """

    def __new__(cls, content: bytes) -> MessageView:
        """Errors: ValueError when it is no protobuf, or has more than 8 wrappers; the peer's fault."""
    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str | None:
        """Its words: the text, the caption, the emoji of a reaction (empty: taken back), the question of a
        poll, the id of a choice, the name of a contact or place; the new words of an edit."""
    @property
    def media(self) -> MessageMedia | None: ...
    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees."""
    @property
    def target(self) -> MessageKey | None:
        """The message that a reaction, an edit, a revoke or a vote is about."""
    @property
    def quoted(self) -> MessageKey | None:
        """The message that it answers."""
    @property
    def mentions(self) -> list[str]:
        """JIDs."""
    @property
    def is_view_once(self) -> bool: ...
    @property
    def is_forwarded(self) -> bool: ...
    @property
    def destination(self) -> str | None:
        """The chat that an own other device sent it to, in that device's words."""

@final
class MessageMedia:
    """Where an attached file lies, and how it is opened. The file itself is not fetched."""

    @property
    def url(self) -> str | None: ...
    @property
    def direct_path(self) -> str | None: ...
    @property
    def mime_type(self) -> str | None: ...
    @property
    def file_name(self) -> str | None: ...
    @property
    def file_bytes(self) -> int | None:
        """Once it is opened."""
    @property
    def key(self) -> bytes | None:
        """32 bytes; secret."""
    @property
    def sha256(self) -> bytes | None: ...
    @property
    def encrypted_sha256(self) -> bytes | None: ...
    @property
    def duration_s(self) -> int | None: ...
    @property
    def width(self) -> int | None:
        """Pixels."""
    @property
    def height(self) -> int | None: ...
    @property
    def is_voice_note(self) -> bool: ...

@final
class MessageKey:
    """Names another message."""

    @property
    def chat(self) -> str | None: ...
    @property
    def id(self) -> str | None: ...
    @property
    def participant(self) -> str | None:
        """Its author."""
    @property
    def is_from_me(self) -> bool:
        """Whoever names it has written it too."""

@final
class Delivery:
    """One event for one webhook that has not taken it yet."""

    @property
    def seq(self) -> int: ...
    @property
    def event_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def session_id(self) -> str:
        """Empty: of the whole runner."""
    @property
    def chat(self) -> str:
        """Empty: of no chat."""
    @property
    def body(self) -> bytes: ...
    @property
    def at_unix_ms(self) -> int: ...
    @property
    def attempts(self) -> int:
        """Those that failed."""
    @property
    def not_before_unix_ms(self) -> int: ...

@final
class UnreadMessage:
    """One message of the inbox that could not be read, as `Store.unread` gives it."""

    @property
    def seq(self) -> int: ...
    @property
    def session_id(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def received_unix_ms(self) -> int: ...
    @property
    def failure(self) -> str:
        """As `InboxMessage.failure`, of the last time."""
    @property
    def attempts(self) -> int:
        """How often it came and was not read."""

@final
class Undelivered:
    """Something that was given up and is kept."""

    @property
    def seq(self) -> int: ...
    @property
    def sink(self) -> str:
        """A webhook's id, or `app`: the application's handlers."""
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str:
        """The event's id; the message's for `app`."""
    @property
    def session_id(self) -> str: ...
    @property
    def chat(self) -> str: ...
    @property
    def at_unix_ms(self) -> int: ...
    @property
    def died_unix_ms(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def why(self) -> str: ...

@final
class DeadLetter:
    """One inbound `<message>` that this version could not decode and refused: nobody sends it again."""

    @property
    def seq(self) -> int: ...
    @property
    def session_id(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def frame(self) -> bytes:
        """The decrypted frame as it came, flag byte in front; at most 1 MiB."""
    @property
    def received_unix_ms(self) -> int: ...

@final
class Quarantined:
    """A row or file that could not be read and was set aside."""

    @property
    def what(self) -> str: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def why(self) -> str: ...
    @property
    def at_unix_ms(self) -> int: ...

@final
class StoreHealth:
    """A snapshot; reading it never blocks."""

    @property
    def queued(self) -> int: ...
    @property
    def oldest_age_s(self) -> float: ...
    @property
    def lock_wait_s(self) -> float:
        """How long a lock that another process holds on the database has been waited for; 0 when none is."""

    @property
    def commits_total(self) -> int: ...
    @property
    def batches_total(self) -> int: ...
    @property
    def failed_total(self) -> int: ...
    @property
    def last_error(self) -> str | None: ...
    @property
    def disk_full(self) -> bool: ...
    @property
    def wal_bytes(self) -> int: ...
    @property
    def inbox_pending(self) -> int: ...
    @property
    def dead_letters(self) -> int:
        """Messages that could not be decoded and wait for `remove_dead_letters`."""
    @property
    def dead_letters_dropped_total(self) -> int:
        """Such messages for which there was no room any more (1,000 in all, 100 of a session)."""

@final
class DeviceRecord:
    """The credentials of one linked device, checked on construction (ValueError names the field)."""

    def __new__(
        cls,
        *,
        jid: str,
        lid: str | None,
        push_name: str | None,
        platform: str | None,
        registration_id: int,
        noise_secret: bytes,
        identity_secret: bytes,
        signed_pre_key_id: int,
        signed_pre_key_secret: bytes,
        signed_pre_key_signature: bytes,
        adv_secret: bytes,
        account: bytes | None,
        routing_info: bytes | None,
        source: bytes,
    ) -> DeviceRecord:
        """`source` is the original credentials file, kept whole so that nothing is lost.

        Shape: secrets are 32 bytes, the signature 64, `account` the serialized ADVSignedDeviceIdentity.
        """

@final
class ExportedDevice:
    """A session's device for another program. Its keys are secrets; its repr shows none."""

    @property
    def jid(self) -> str: ...
    @property
    def lid(self) -> str | None: ...
    @property
    def push_name(self) -> str | None: ...
    @property
    def platform(self) -> str | None: ...
    @property
    def registration_id(self) -> int: ...
    @property
    def noise_secret(self) -> bytes: ...
    @property
    def identity_secret(self) -> bytes: ...
    @property
    def adv_secret(self) -> bytes: ...
    @property
    def account(self) -> bytes | None:
        """Serialized ADVSignedDeviceIdentity."""
    @property
    def routing_info(self) -> bytes | None: ...
    @property
    def source(self) -> bytes:
        """The creds.json that it was imported from; empty when a phone linked it here."""
    @property
    def signed_pre_key(self) -> tuple[int, bytes, bytes]:
        """The one in use: id, secret, signature."""
    @property
    def pre_key_ids(self) -> tuple[int, int] | None:
        """The next id, and the first that may not be at the server; None: none was made here."""
    @property
    def files(self) -> list[tuple[str, str, bytes]]:
        """Kind, id and content of each of Baileys' files, beside the credentials."""
    @property
    def left_out(self) -> list[str]:
        """Records that cannot be read, as `kind id`."""

@final
class BackupMade:
    """A backup that was made."""

    @property
    def bytes(self) -> int: ...
    @property
    def sessions(self) -> int: ...
    @property
    def at_unix_ms(self) -> int: ...
    @property
    def took_s(self) -> float: ...

@final
class StoreRestored:
    """A store that was made of a backup."""

    @property
    def sessions(self) -> int: ...
    @property
    def changed(self) -> int:
        """Signal records that were changed so that no key is used twice."""
    @property
    def unreadable(self) -> list[str]:
        """Sessions whose credentials are damaged."""
    @property
    def at_unix_ms(self) -> int:
        """When the backup was made."""
    @property
    def moved_to(self) -> Path | None:
        """Where the store is that was there."""

def restore_store(path: str | PathLike[str], file: str | PathLike[str], *, replace: bool) -> StoreRestored:
    """Make the store at `path` of a backup, all ratchets marked stale. Blocking. Nothing is touched before
    the file was checked; with `replace` a store that has sessions is moved aside.

    Errors: StoreError (locked; exists: it has sessions; damaged: no whole backup; newer_schema; disk_full;
    io).
    """

@final
class Store:
    """The one SQLite file of all sessions, held under a lock by this process."""

    def __new__(
        cls,
        path: str,
        *,
        group_commit_ms: int = 2,
        keep_done_s: float = 86400.0,
        keep_undelivered_s: float = 2592000.0,
    ) -> Store:
        """Open or create. Blocking. Messages are removed `keep_done_s` after `done`, events as long after
        their last delivery, and what was given up `keep_undelivered_s` after that.

        Errors: StoreError (locked, newer_schema, damaged, io, disk_full); ValueError (no duration).
        """
    @property
    def report(self) -> list[str]:
        """What opening found and did, in words (migrated, quarantined …); empty when all was well."""
    def sessions(self) -> list[StoredSession]: ...
    def put_policy(self, session_id: str, policy: str) -> None:
        """Queue the durable policy state of a session; the latest wins; never blocks."""
    def put_meta(self, key: str, value: str) -> None:
        """Queue a fleet-wide durable value; never blocks."""
    def meta(self) -> dict[str, str]: ...
    def export(self, session_id: str) -> ExportedDevice:
        """All that a session's device is, in the form of Baileys. Blocking. Stop the session, and flush,
        first.

        Errors: StoreError (unknown_session; not_linked; quarantined: its credentials are damaged).
        """
    def backup(self, file: str | PathLike[str], version: str) -> BackupMade:
        """Copy the store as it is now into a new file, mode 0600, while it is in use. Blocking for as long as
        that takes; nobody else waits for it.

        Errors: StoreError (exists; disk_full; io). There is no file then.
        """
    def create(self, session_id: str) -> None:
        """A new session without a device: a phone is to link one. Blocking. Errors: StoreError (exists)."""
    def set_aside(self, session_id: str) -> None:
        """Move the unlinked (archived) device of a session to the archive tables, so that a phone can link
        another; a session without a device stays as it is. Blocking.

        Errors: StoreError (unknown_session; exists: the device is not known to be unlinked).
        """
    def import_device(
        self, session_id: str, device: DeviceRecord, keys: list[tuple[str, str, bytes]]
    ) -> None:
        """Take over a device and its Signal keys `(type, id, value)` in one transaction. Blocking.

        Errors: StoreError (exists: the id is taken; disk_full; io). Nothing is changed then.
        """
    def import_devices(
        self, devices: list[tuple[str, DeviceRecord, list[tuple[str, str, bytes]]]]
    ) -> list[tuple[str, str] | None]:
        """Take over many devices `(session_id, device, keys)` in one transaction. Blocking.

        Each is taken whole or not at all. The answer has, in their order, None for one that was taken and
        `(slug, message)` for one that was refused (exists: the id or the device is taken).
        Errors: StoreError (disk_full, io, closed): the transaction failed, and none was taken.
        """
    def signal_keys(self, session_id: str) -> list[tuple[str, str, bytes]]:
        """The Signal keys of a session that are as they were imported: used by nobody since. Blocking."""
    def archive(self, session_id: str, reason: str) -> None:
        """Mark the credentials as logged out; they are kept. Blocking."""
    def unarchive(self, session_id: str) -> None:
        """Take the mark back: the device logged in after all. Blocking."""
    def delete(self, session_id: str) -> None:
        """Remove a session on the operator's explicit request; its credentials move to the archive.
        Blocking."""
    def quarantined(self) -> list[Quarantined]: ...
    def take(self, after_seq: int, n: int) -> list[InboxMessage]: ...
    def take_of_chat(self, session_id: str, chat: str, after_seq: int, n: int) -> list[InboxMessage]:
        """As `take`, of one session and chat. Blocking; reads through all that wait."""
    def find(self, session_id: str, chat: str, senders: list[str], message_id: str) -> InboxMessage | None:
        """The message that one of `senders` wrote in a chat under this id; confirmed ones as long as they are
        remembered. None also for one that was not read. Blocking."""
    def done(self, seqs: list[int]) -> int: ...
    def post(self, events: list[tuple[str, str, str, str, bytes, int, list[str]]], done: list[int]) -> int:
        """Post events `(event_id, name, session_id, chat, body, at_unix_ms, webhook_ids)` to the outbox and
        confirm messages, in one transaction. Blocking; on return it survives power loss.

        How many events were new: one whose id is known, or that is for nobody, is left out.
        Errors: StoreError (disk_full, io, closed): nothing was changed. The same for all that follow.
        """
    def deliveries(self, webhook_id: str, after_seq: int, n: int) -> list[Delivery]:
        """What waits for one webhook, oldest first, after `after_seq`; at most 16 MiB of bodies. Blocking."""
    def deliveries_of(
        self, webhook_id: str, session_id: str, chat: str, after_seq: int, n: int
    ) -> list[Delivery]:
        """The same, of one session and chat. Blocking."""
    def settle(
        self, delivered: list[int], failed: list[tuple[int, int, int]], dead: list[tuple[int, int, str]]
    ) -> None:
        """Write down what became of attempts: taken; failed `(seq, attempts, not_before_unix_ms)`; given up
        `(seq, attempts, why)`. Blocking. What is not there (any more) is left alone."""
    def bury(self, messages: list[tuple[int, int, str]]) -> int:
        """Give up messages `(seq, attempts, why)` that the application could not take; how many waited.
        Blocking."""
    def unread(self, before_unix_ms: int, n: int) -> list[UnreadMessage]:
        """Messages that could not be read and wait since before this time, or that nobody expects any more:
        asking cannot mend the failure, or five requests did not. Blocking."""
    def give_up_unread(
        self, events: list[tuple[str, str, str, str, bytes, int, list[str]]], seqs: list[int]
    ) -> int:
        """Post events, as `post` does, and give up such messages, in one transaction; how many still waited.

        They are `undelivered` under the sink `undecryptable`; one that is read later is delivered, and leaves
        it. Blocking.
        """
    def undelivered(self, after_seq: int, n: int, sink: str | None = None) -> list[Undelivered]:
        """What was given up, oldest first; of one sink, or of all. Blocking."""
    def redrive(self, seqs: list[int]) -> tuple[int, int]:
        """Put back what was given up, with its attempts forgotten: `(messages, deliveries)`. Blocking.

        A delivery goes behind all that wait; a message waits again under its old number.
        """
    def discard(self, seqs: list[int]) -> int:
        """Let go of what was given up; how many there were. Blocking."""
    def webhooks(self) -> list[tuple[str, str]]:
        """Every webhook's id and configuration as JSON, by id. Blocking."""
    def put_webhook(self, webhook_id: str, json: str) -> None:
        """Keep the configuration of a webhook; the newest wins. Blocking."""
    def remove_webhook(self, webhook_id: str, why: str) -> int:
        """Forget a webhook; what waits for it is given up. How much that was. Blocking."""
    def give_up_unknown(self, known: list[str], why: str) -> int:
        """Give up what waits for webhooks that are none of `known`; how much that was. Blocking."""
    def backlog(self) -> list[tuple[str, int, int]]:
        """`(sink, waiting, given up)` for each webhook that has any, and for `app`. Blocking."""
    def take_dead_letters(self, after_seq: int, n: int) -> list[DeadLetter]:
        """The oldest after `after_seq`; they stay until they are removed. Blocking."""
    def remove_dead_letters(self, seqs: list[int]) -> int:
        """How many there were. Blocking."""
    def health(self) -> StoreHealth: ...
    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued is committed. Blocking (releases the GIL)."""
    def close(self) -> None: ...

@final
class Event:
    """Something that happened to one connection (or, with an empty `session_id`, to the engine).

    kinds: `phase` (phase), `online` (handshake, duration_s from `open`, jid, push_name), `closed` (reason,
    code, phase, detail, expire_s;
    the last event of a connection, exactly one for each `open`), `probe` (probe, healthy, detail),
    `clock_offset`
    (clock_offset_s, at each login), `identity_changed` (detail: the JID of a contact's device whose identity
    key is another one than before), `keys_differ` (detail: what the server had of ours that is not so; it was
    given ours), `record_unreadable` (detail: the kind of an imported record that cannot be read and counts as
    none; the first of its kind on the connection), `resume_failed` (Noise IK failed; rest it for this
    endpoint), `path` (a dial that
    reached `authenticating`). On a connection that links a new device: `qr` (qr, ttl_s, qr_left: a QR code to
    scan, in place of the one before), `pairing_code` (pairing_code, ttl_s: to be typed into the phone),
    `no_pairing_code` (reason: `too_many`, `refused`, with the server's number as code, or `spent`), `linked`
    (the device is durable; it logs in on the next connection, or on this one where `pair` found it in the
    store). `sent` (token; server_unix_s, or a reason, with the server's number as code, when it is not known
    to be sent): what became of a `send_text`, one for each, unless its connection panics.
    The engine's own: `messages` (the inbox has new rows; one stands for all that wait), `store`
    (healthy, detail), `stopped` (shutdown finished; the last event).
    All but `clock_offset`, `identity_changed`, `keys_differ`, `record_unreadable` and `path` always fit;
    of these `outbox_capacity` may wait, the
    rest is dropped and counted. Of each probe of a connection only the newest verdict waits.
    """

    @property
    def kind(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def connection(self) -> int: ...
    @property
    def at_unix_ms(self) -> int: ...
    @property
    def phase(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def code(self) -> int | None: ...
    @property
    def detail(self) -> str | None: ...
    @property
    def expire_s(self) -> int | None: ...
    @property
    def probe(self) -> str | None: ...
    @property
    def healthy(self) -> bool | None: ...
    @property
    def handshake(self) -> str | None:
        """`xx`, `ik` or `xxfallback`, for `online`."""
    @property
    def jid(self) -> str | None:
        """Whose session it is, without a device: `15550001111@s.whatsapp.net`."""
    @property
    def push_name(self) -> str | None:
        """The name that others see, where it is known."""
    @property
    def duration_s(self) -> float | None: ...
    @property
    def qr(self) -> str | None:
        """What the QR code says. Whoever has it can link this session with a phone: show it, never log it."""
    @property
    def qr_left(self) -> int | None:
        """How many codes follow this one."""
    @property
    def pairing_code(self) -> str | None:
        """`XXXX-XXXX`; as secret as `qr`."""
    @property
    def ttl_s(self) -> float | None:
        """How long `qr` or `pairing_code` is good."""
    @property
    def token(self) -> int | None:
        """Whose outcome a `sent` is."""
    @property
    def server_unix_s(self) -> int | None:
        """When the server took a message, if it said so."""
    @property
    def clock_offset_s(self) -> float | None:
        """The server's clock minus ours; positive when ours is behind."""

@final
class OutgoingText:
    """A text for one chat.

    `token` names its outcome. `chat` is the JID of a user, by phone number or LID, or of a group.
    `message_id` has 1 to 128 bytes; sent again under the same, it stays one message to whoever gets it.
    `quoted` is the message that it answers: id, sender, and its content (a serialized `Message`).
    Errors: ValueError that names the field.
    """

    def __new__(
        cls,
        *,
        token: int,
        chat: str,
        message_id: str,
        text: str,
        quoted: tuple[str, str, bytes] | None = None,
    ) -> OutgoingText: ...

@final
class SessionCounters:
    """Plain totals of one session over the life of the process, and ages in seconds (None: never).

    Ages are counted to the moment of the call, also when an older copy had to be given: what was heard 5 s
    before a copy that is 60 s old was heard 65 s ago.
    """

    @property
    def session_id(self) -> str: ...
    @property
    def connection(self) -> int: ...
    @property
    def phase(self) -> str: ...
    @property
    def copy_age_s(self) -> float:
        """Since the I/O thread made this copy; more than a moment while that thread stands still."""
    @property
    def frames_received(self) -> int: ...
    @property
    def frames_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def stanzas_received(self) -> int: ...
    @property
    def stanzas_malformed(self) -> int: ...
    @property
    def messages_received(self) -> int:
        """Inbound messages read, committed and answered: decrypted, or never encrypted (newsletters)."""
    @property
    def messages_undecrypted(self) -> int:
        """Inbound messages committed and answered without content: `InboxMessage.failure` says why."""
    @property
    def records_unreadable(self) -> int:
        """Imported Signal records that could not be read and count as none."""
    @property
    def messages_undecodable(self) -> int:
        """Inbound messages that did not decode and were refused; those up to 1 MiB are dead letters first."""
    @property
    def answers_sent(self) -> int: ...
    @property
    def pings_sent(self) -> int: ...
    @property
    def pongs_received(self) -> int: ...
    @property
    def requests_sent(self) -> int: ...
    @property
    def requests_failed(self) -> int: ...
    @property
    def messages_sent(self) -> int:
        """Texts sent that the server has acknowledged."""
    @property
    def messages_resent(self) -> int:
        """The same sent again, to a device that could not read it."""
    @property
    def messages_not_resent(self) -> int:
        """Askings for one again that were not answered with it."""
    @property
    def sends_failed(self) -> int:
        """Texts that were to be sent and are not known to be."""
    @property
    def sends_refused(self) -> int:
        """Nodes that were queued and fit no frame. `Engine.send` refuses them first."""
    @property
    def unanswered(self) -> int:
        """Inbound stanzas that still wait for their terminal answer."""
    @property
    def oldest_unanswered_age_s(self) -> float | None: ...
    @property
    def last_data_age_s(self) -> float | None: ...
    @property
    def last_pong_age_s(self) -> float | None: ...
    @property
    def pong_rtt_s(self) -> float | None: ...
    @property
    def online_age_s(self) -> float | None: ...
    @property
    def response_count(self) -> int:
        """Answered round trips (ping, iq, send to ack)."""
    @property
    def response_sum_s(self) -> float: ...
    @property
    def response_buckets(self) -> list[int]:
        """Counts at or below each bound of `RESPONSE_BUCKETS_S`, not cumulative, the last one is the
        overflow."""

@final
class CounterColumns:
    """The counters of all sessions at one moment, one `bytes` a column, one element a row.

    A session keeps its row until it is forgotten. Elements are in the machine's byte order; the letter is the
    one of `memoryview.cast`. Rows that are free are 0 or, where a value can be missing, not a number.
    """

    @property
    def rows(self) -> int: ...
    @property
    def copy_age_s(self) -> float:
        """How old the copy is; ages in the columns run to the moment of the call all the same."""
    @property
    def changes(self) -> int:
        """Grows whenever a row is taken or given back: while it stays, `session_id` says what it said."""
    @property
    def online(self) -> int:
        """Connections after `<success>`."""
    @property
    def oldest_unanswered_age_s(self) -> float:
        """Over all sessions; 0 when nothing waits."""
    def session_id(self, row: int) -> str | None: ...
    def totals(self) -> dict[str, float]:
        """Sums over all sessions, forgotten ones included: frames_received, frames_sent, bytes_received,
        bytes_sent, stanzas_malformed, messages_received, messages_undecrypted, records_unreadable,
        messages_sent, messages_resent, messages_not_resent, sends_failed, pings_sent, pongs_received,
        requests_sent, requests_failed, response_count, response_sum_s."""
    @property
    def response_totals(self) -> list[int]:
        """The response buckets over all sessions, forgotten ones included; not cumulative."""
    @property
    def births(self) -> bytes:
        """`Q`; another number when the row belongs to another session (or to the same one, begun anew)."""
    @property
    def connections(self) -> bytes:
        """`Q`"""
    @property
    def phases(self) -> bytes:
        """`B`, the place in `phases()`."""
    @property
    def online_ages_s(self) -> bytes:
        """`d`, not a number when it is not online."""
    @property
    def last_data_ages_s(self) -> bytes:
        """`d`"""
    @property
    def last_pong_ages_s(self) -> bytes:
        """`d`"""
    @property
    def pong_rtts_s(self) -> bytes:
        """`d`"""
    @property
    def pings_unanswered(self) -> bytes:
        """`I`, pings that no pong has matched, over all connections of the session."""
    @property
    def messages_received(self) -> bytes:
        """`Q`"""
    @property
    def messages_undecrypted(self) -> bytes:
        """`I`"""
    @property
    def messages_sent(self) -> bytes:
        """`Q`"""
    @property
    def sends_failed(self) -> bytes:
        """`I`"""
    @property
    def requests_failed(self) -> bytes:
        """`I`"""
    @property
    def stanzas_malformed(self) -> bytes:
        """`I`"""
    @property
    def responses(self) -> bytes:
        """`Q`"""
    @property
    def response_sums_us(self) -> bytes:
        """`Q`"""
    @property
    def response_buckets(self) -> bytes:
        """`H`, `len(RESPONSE_BUCKETS_S) + 1` a row, not cumulative, modulo 65,536."""

RESPONSE_BUCKETS_S: Final[tuple[float, ...]]

@final
class EngineStats:
    """A snapshot of the I/O thread; reading it never blocks."""

    @property
    def sessions(self) -> int: ...
    @property
    def dialling(self) -> int: ...
    @property
    def online(self) -> int: ...
    @property
    def loop_lag_s(self) -> float:
        """The longest that a timer, or a turn of the loop, was late, over the last 30 to 60 s: a look every
        30 s misses nothing, and reading it takes nothing from other readers."""
    @property
    def heartbeat_age_s(self) -> float:
        """Since the I/O thread last finished a turn, by a monotonic clock."""
    @property
    def turns_total(self) -> int: ...
    @property
    def wakeups_total(self) -> int: ...
    @property
    def outbox_depth(self) -> int: ...
    @property
    def outbox_dropped_total(self) -> int: ...
    @property
    def dials_total(self) -> int: ...
    @property
    def panics_total(self) -> int: ...
    @property
    def store_stalled(self) -> bool: ...
    @property
    def tls_resumed_total(self) -> int: ...
    @property
    def held_input_bytes(self) -> int:
        """Input that waits for the rest of its frame or TLS record, over all connections."""

@final
class EngineConfig:
    """Fixed for the life of an engine; checked on construction (ValueError names the field)."""

    def __new__(
        cls,
        *,
        endpoint: str,
        root_key: bytes | None = None,
        tls_ca_pem: bytes | None = None,
        connect_timeout_s: float = 20.0,
        handshake_timeout_s: float = 20.0,
        login_timeout_s: float = 60.0,
        query_timeout_s: float = 60.0,
        send_timeout_s: float = 75.0,
        keepalive_min_s: float = 15.0,
        keepalive_max_s: float = 20.0,
        keepalive_second_s: float = 6.0,
        dead_socket_s: float = 12.0,
        probe_interval_s: float = 300.0,
        offline_timeout_s: float = 60.0,
        stanza_answer_timeout_s: float = 30.0,
        store_stall_s: float = 20.0,
        outbox_capacity: int = 65536,
        held_input_limit_bytes: int = 268435456,
    ) -> EngineConfig:
        """`endpoint`: `wss://host[:port]/path`, or `ws://` to `localhost` or a loopback address. `root_key`
        and `tls_ca_pem`
        are refused for the real host. `connect_timeout_s` bounds everything up to the end of the TLS
        handshake,
        `handshake_timeout_s` the upgrade and the Noise handshake each, `login_timeout_s` bounds
        `authenticating`. `held_input_limit_bytes` (at least 16 MiB) bounds the unfinished input of all
        connections together;
        above it the one that holds the most closes as `input_unfinished`.
        """

@final
class Engine:
    """The I/O thread and all connections. It never redials by itself and never waits for Python."""

    def __new__(cls, store: Store, config: EngineConfig) -> Engine:
        """Start the I/O thread; from here on `store` reports its commits to this engine and to no other.

        Errors: ValueError (the extra CA does not parse), OSError (no descriptor or thread left).
        """
    def fileno(self) -> int:
        """An eventfd that is readable while `drain` has something to give."""
    def drain(self, max_events: int) -> list[Event]:
        """Take the oldest events; never blocks; empty if the wake-up was spurious."""
    def open(
        self,
        session_id: str,
        connection: int,
        *,
        version: tuple[int, int, int],
        proxy: str | None = None,
        resume: bool = False,
        pair: bool = False,
    ) -> None:
        """Dial. `resume` allows Noise IK when a valid server key is cached; `pair` lets a phone link a device
        when the session has none (else that ends as `device_missing`). Never blocks.

        Errors: ValueError (empty session id, proxy URL: `http://`, `socks5://` or `socks5h://`, with optional
        `user:password@`); RuntimeError when the session already has an open connection (our bug);
        EngineFullError when a million events wait to be drained; EngineClosedError.
        """
    def close(self, session_id: str, connection: int, reason: str) -> None:
        """Close with one of the `request` reasons (else ValueError). One that is not there (any more) is
        left alone."""
    def logout(self, session_id: str, connection: int) -> None:
        """Unlink this device at the server, then close with `logged_out_by_request`. Errors:
        EngineClosedError.

        Before the connection is up it closes as `stopped`: nothing was unlinked.
        """
    def link_by_code(self, session_id: str, connection: int, phone: int) -> None:
        """Offer a pairing code to the phone with this number (digits with the country code), on a connection
        that links a new device; the event `pairing_code` or `no_pairing_code` follows. Before the first QR
        code it waits for the server; before the connection is up it is lost. Errors: EngineClosedError.
        """
    def send(self, session_id: str, connection: int, node: bytes) -> None:
        """Queue one encoded node (flag byte in front). A connection that is not there (any more) is left
        alone.

        Errors: ValueError when it does not decode or is longer than a frame (8 MiB); EngineFullError when
        65,536 nodes wait; EngineClosedError.
        """
    def send_text(self, session_id: str, connection: int, text: OutgoingText) -> None:
        """Send a text to all devices of a chat; what becomes of it comes as an event `sent` with its token,
        also when there is no such connection. At most 128 of a session are on their way at once.

        Errors: EngineFullError when 65,536 nodes and texts wait; EngineClosedError.
        """
    def forget(self, session_id: str) -> None:
        """Drop the counters of a session that was deleted; one with a connection is left alone."""
    def counters(self) -> list[SessionCounters]:
        """All sessions that ever opened, in one call. Waits for the I/O thread to copy them (GIL released),
        normally
        well under a millisecond; after 250 ms the previous copy is given, which `copy_age_s` tells."""
    def columns(self) -> CounterColumns:
        """The same as columns: for a large fleet, a tenth of the time and of the memory."""
    def stats(self) -> EngineStats: ...
    def shutdown(self) -> None:
        """Close everything with `shutdown`, within 2 s; the event `stopped` is the last one. Asking again
        is harmless."""

@final
class CloseReasonInfo:
    @property
    def slug(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def code(self) -> int | None: ...
    @property
    def summary(self) -> str: ...

def close_reasons() -> list[CloseReasonInfo]:
    """Every reason a connection can end, in a stable order."""

def phases() -> list[str]:
    """The connection phases in order."""

def x25519_public_key(secret: bytes) -> bytes:
    """The public key of an X25519 secret: to tell a damaged credentials file from a good one.

    Shape: 32 bytes in, 32 bytes out. Errors: ValueError for another length. Source: RFC 7748 §5.
    """

@final
class WireNode:
    @property
    def tag(self) -> str: ...
    @property
    def attrs(self) -> dict[str, str]: ...
    @property
    def content(self) -> list[WireNode] | bytes | str | None: ...

@final
class NoiseTransport:
    """The cipher of the frames after a Noise handshake, both directions. Never blocks.

    Source: docs/protocol.md, "Noise".
    """

    def __new__(cls, send_key: bytes, receive_key: bytes) -> NoiseTransport:
        """A channel at its start. Errors: ValueError for a key that has not 32 bytes."""
    def seal(self, plain: bytes) -> bytes:
        """The payload of the next frame out, 16 bytes longer.

        Errors: ValueError when its nonces are used up.
        """
    def open(self, frame: bytes) -> bytes:
        """What is in the next frame in.

        Errors: ValueError when it is not the next one that the peer sealed; the channel is of no further use.
        """

def decode_node(data: bytes) -> WireNode:
    """Decode one node, flag byte in front. Errors: ValueError with the kind and the offset."""

def encode_node(tag: str, attrs: dict[str, str], content: object) -> bytes:
    """Encode one node, flag byte in front; content is None, bytes, str or a list of (tag, attrs, content)
    tuples."""

@final
class Simulator:
    """A WhatsApp Web server on loopback with its own threads; see docs/simulator.md."""

    def __new__(
        cls,
        *,
        port: int = 0,
        control_port: int = 0,
        sessions: int = 0,
        tls: bool = False,
        directory: str,
    ) -> Simulator:
        """Start listening; writes the test CA and N credential directories under `directory`. Blocking,
        short."""
    @property
    def url(self) -> str: ...
    @property
    def control(self) -> str: ...
    @property
    def root_key_hex(self) -> str: ...
    @property
    def ca_file(self) -> str | None: ...
    @property
    def credentials(self) -> str: ...
    @property
    def running(self) -> bool:
        """False once it has stopped, by `stop()` or because the control port was told to quit."""
    def stop(self) -> None: ...
