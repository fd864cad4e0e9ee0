//! What the driver knows of the store, and what a client makes of it.

/// How the store is. The driver says so when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// It commits.
    #[default]
    Commits,
    /// Another process holds the database's lock: a commit takes as long as that, and nothing else waits.
    Locked,
    /// The same, and so much waits that the driver reads nothing more. Closing would free little and bring no message
    /// earlier (docs/decisions/0016).
    LockedAndFull,
    /// It does not answer, and nobody knows why: nothing is read, and the connection ends after a while.
    Hangs,
}

impl StoreState {
    /// Whether the driver reads from the sockets.
    #[must_use]
    pub const fn is_reading(self) -> bool {
        matches!(self, Self::Commits | Self::Locked)
    }
}
