//! Sockets, TLS, proxies, timers and threads: carries bytes to the clients and their effects to the store.
//!
//! One thread drives all connections and never waits for the handle's owner. It never redials: a connection ends with exactly
//! one `closed` event, and whoever decides opens the next.

mod clock;
mod command;
mod config;
mod dial;
mod driver;
mod engine;
mod entropy;
mod event;
mod in_flight;
mod link;
mod moving;
mod outbox;
mod panic_place;
mod proxy;
mod race;
mod reactor;
mod resolve;
mod rows;
mod slab;
mod stats;
mod store_link;
mod store_watch;
mod timers;
mod tls;

// The integration tests' support is used by one test in here as well.
#[cfg(test)]
extern crate self as runner_engine;
#[cfg(test)]
mod tests;

pub use clock::{Clock, SystemClock};
pub use config::{Config, Endpoint, EndpointError, HELD_INPUT_LIMIT, MIN_HELD_INPUT_LIMIT};
pub use engine::{Engine, OpenRequest, Refused, StartError};
pub use event::{Event, EventKind};
pub use moving::{export_session, restore_backup};
pub use proxy::{Proxy, ProxyUrlError};
pub use rows::{Fleet, Place};
pub use stats::{SessionCounters, Stats};
pub use tls::TlsConfigError;
