//! Durable state of all sessions in one SQLite file.
//!
//! - **One writer.** A thread of its own gathers what all sessions submit and commits it as one transaction
//!   (WAL, `synchronous=FULL`): one fsync serves them all. A batch is answered after that fsync, in submit
//!   order; what is answered survives `kill -9` and power loss.
//! - **All or nothing, in order.** A failed commit fails its whole group and everything queued behind it.
//! - **A lock is waited for.** While another process holds the database's write lock, nothing fails and nothing is
//!   lost: batches wait in order, in bounded memory, and what only reads is answered (docs/decisions/0016).
//! - **Damage is set aside, never replaced.** A row whose checksum does not match is quarantined with its
//!   session; a file that cannot be read is kept and what can be read is salvaged into a new one.
//! - **One process.** An advisory lock on `PATH.lock`; the second process is refused.
//!
//! Readers use a second connection: a consumer that takes messages neither waits for the writer's fsync nor
//! holds it up (WAL readers see the last commit). It cannot write, so there is still one writer.

mod backup;
mod checksum;
mod ciphertext;
mod dead_letter;
mod error;
mod inbox;
mod lock;
mod lock_wait;
mod open;
mod options;
mod outbox;
mod queue;
mod record;
mod salvage;
mod schema;
mod secret;
mod sessions;
mod shared;
mod signal_record;
mod store;
mod unread;
mod wal;
mod writer;

pub use backup::{Change, Made, Restored, restore};
pub use dead_letter::{MAX_DEAD_LETTERS, MAX_DEAD_LETTERS_OF_SESSION};
pub use error::{DeviceError, ErrorKind, StoreError};
pub use options::Options;
pub use outbox::{APP, Backlog, Delivery, NewEvent, Settled, Undelivered};
pub use queue::Pressure;
pub use record::{
    Applied, Batch, Ciphertext, Completion, Content, Credentials, DeadLetter, Device, Exported, Health,
    Import, InboxMessage, Linked, OpenReport, Quarantined, RecordKey, ServerChain, SessionRow, SignalKey,
    SignalRecord, StoredRow, Unread, Write,
};
pub use secret::{Secret32, SecretBytes};
pub use store::Store;
pub use unread::UNDECRYPTABLE;
