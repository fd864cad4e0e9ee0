//! Commands on their way to the I/O thread.

use crate::proxy::Proxy;
use runner_client::Outgoing;
use runner_proto::close_reason::CloseReason;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Nodes and texts that may wait to be sent; the others are bounded by the number of connections.
const MAX_SENDS: usize = 65_536;

#[derive(Debug)]
pub(crate) enum Command {
    Open(Box<Open>),
    Close {
        session_id: Arc<str>,
        connection: u64,
        reason: CloseReason,
    },
    Logout {
        session_id: Arc<str>,
        connection: u64,
    },
    LinkByCode {
        session_id: Arc<str>,
        connection: u64,
        phone: u64,
    },
    Send {
        session_id: Arc<str>,
        connection: u64,
        node: Vec<u8>,
    },
    SendText {
        session_id: Arc<str>,
        connection: u64,
        outgoing: Box<Outgoing>,
    },
    /// Copy the counters of all sessions out.
    Counters,
    /// Drop what is remembered of a session without a connection.
    Forget {
        session_id: Arc<str>,
    },
    /// Close all, then end the thread.
    Shutdown,
    /// End the thread now.
    Halt,
    /// Stand still until the other end of the channel is gone.
    #[cfg(test)]
    Stall(std::sync::mpsc::Receiver<()>),
    #[cfg(test)]
    Panic {
        session_id: Arc<str>,
        connection: u64,
        /// Not now, but over the next bytes from the server.
        over_input: bool,
    },
}

/// What to dial for.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) session_id: Arc<str>,
    pub(crate) connection: u64,
    pub(crate) version: [u32; 3],
    pub(crate) proxy: Option<Proxy>,
    pub(crate) resume: bool,
    pub(crate) pair: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Commands(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Command>,
    sends: usize,
    /// Nobody takes any more.
    is_closed: bool,
}

impl Commands {
    /// Queues a command. `Ok(true)` when the thread must be woken, `Err` when there is no room for another node,
    /// or when nobody takes commands any more.
    pub(crate) fn push(&self, command: Command) -> Result<bool, Command> {
        let mut queue = self.lock();
        if queue.is_closed {
            return Err(command);
        }
        if let Command::Send { .. } | Command::SendText { .. } = command {
            if queue.sends >= MAX_SENDS {
                return Err(command);
            }
            queue.sends += 1;
        }
        queue.waiting.push_back(command);
        Ok(queue.waiting.len() == 1)
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> VecDeque<Command> {
        let mut queue = self.lock();
        queue.sends = 0;
        std::mem::take(&mut queue.waiting)
    }

    /// The same, and the last of it: what is pushed from now on is refused, so that nothing is accepted and forgotten.
    pub(crate) fn close(&self) -> VecDeque<Command> {
        let mut queue = self.lock();
        queue.is_closed = true;
        std::mem::take(&mut queue.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send() -> Command {
        Command::Send { session_id: Arc::from("s"), connection: 1, node: Vec::new() }
    }

    #[test]
    fn the_thread_is_woken_once_for_all_that_waits() {
        let commands = Commands::default();
        assert_eq!(commands.push(Command::Counters).ok(), Some(true));
        assert_eq!(commands.push(Command::Counters).ok(), Some(false));
        assert_eq!(commands.take().len(), 2);
        assert_eq!(commands.push(Command::Counters).ok(), Some(true));
    }

    #[test]
    fn nothing_is_accepted_that_nobody_will_take() {
        let commands = Commands::default();
        assert!(commands.push(Command::Counters).is_ok());
        assert_eq!(commands.close().len(), 1);
        assert!(commands.push(Command::Counters).is_err());
        assert!(commands.take().is_empty());
    }

    #[test]
    fn sends_are_bounded_and_other_commands_still_fit() {
        let commands = Commands::default();
        for _ in 0..MAX_SENDS {
            assert!(commands.push(send()).is_ok());
        }
        assert!(commands.push(send()).is_err());
        assert!(commands.push(Command::Shutdown).is_ok());
        commands.take();
        assert!(commands.push(send()).is_ok());
    }
}
