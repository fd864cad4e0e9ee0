//! What can go wrong, by what the operator does about it.

use std::time::Duration;

use rusqlite::ErrorCode;

/// The kind of a [`StoreError`]; each has a stable slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Another process holds the store.
    Locked,
    /// Another process holds the database's write lock, as a tool in the middle of a change does: wait, or end it.
    Busy,
    /// The file was written by a newer version of this program.
    NewerSchema,
    /// The file cannot be read as a store, and nothing could be salvaged.
    Damaged,
    /// No space is left for the file or its write-ahead log.
    DiskFull,
    /// Any other failure of the file system or of SQLite.
    Io,
    /// The session id is taken.
    Exists,
    /// No session has this id.
    UnknownSession,
    /// No phone has linked a device to the session.
    NotLinked,
    /// The credentials of the session are damaged.
    Quarantined,
    /// The queue holds as much as it may; nothing of the batch was taken.
    QueueFull,
    /// A batch was made before its maker learned that an earlier one failed: nothing of it was taken.
    Behind,
    /// The store was closed: the caller's bug, or the end of the process.
    Closed,
}

impl ErrorKind {
    /// The stable name, as the API and the logs show it.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Busy => "busy",
            Self::NewerSchema => "newer_schema",
            Self::Damaged => "damaged",
            Self::DiskFull => "disk_full",
            Self::Io => "io",
            Self::Exists => "exists",
            Self::UnknownSession => "unknown_session",
            Self::NotLinked => "not_linked",
            Self::Quarantined => "quarantined",
            Self::QueueFull => "queue_full",
            Self::Behind => "behind",
            Self::Closed => "closed",
        }
    }

    /// Whether the transaction around the failed statement is lost with it.
    pub(crate) fn ends_the_group(self) -> bool {
        matches!(self, Self::Busy | Self::Damaged | Self::DiskFull | Self::Io)
    }
}

/// A refusal or failure of the store. The message says what the operator can do; it holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What failed.
    pub kind: ErrorKind,
    /// In words: lower case, with the values that matter.
    pub message: String,
}

impl StoreError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn unknown_session(session_id: &str) -> Self {
        Self::new(ErrorKind::UnknownSession, format!("no session {session_id}"))
    }

    /// Another process has held the write lock for `held`, longer than the asker waits.
    pub(crate) fn busy(held: Duration) -> Self {
        let held_s = held.as_secs();
        let message = format!(
            "another process has had the database locked for {held_s} s, so nothing was written: end it (`fuser` on the database file names it), or ask again later"
        );
        Self::new(ErrorKind::Busy, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the store is closed")
    }

    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {doing}: {error}"))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
            Some(ErrorCode::DiskFull) => ErrorKind::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Damaged,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("sqlite: {error}"))
    }
}

/// Why a device cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No session has this id, or it has no credentials any more.
    #[error("no credentials are stored")]
    Missing,
    /// The session has no device yet: a phone is to link one.
    #[error("no phone has linked this session yet")]
    NotLinked,
    /// The credentials cannot be trusted; they are kept for the operator and never replaced.
    #[error("the credentials are quarantined: {0}")]
    Quarantined(String),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
