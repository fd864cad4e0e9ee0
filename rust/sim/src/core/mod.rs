//! The server without sockets, clock, threads or randomness of its own.
//!
//! A driver owns one [`Hub`]: it hands in plaintext bytes, the time and commands, and carries out what follows. The
//! driver of `python -m runner sim` is in `server`; tests drive the hub with a clock that they turn by hand.

mod chain;
mod chatter;
mod command;
mod contact;
mod counters;
mod directory;
mod fleet;
mod group;
mod http;
mod hub;
mod intro;
mod journal;
mod login;
mod malformed;
mod owed;
mod peer;
mod phone;
mod push;
mod receive;
mod relay;
mod report;
mod responder;
mod route;
mod stanza;
mod wording;
mod world;

pub use chain::{ChainFault, ServerKeys};
pub use command::{
    Chatter, Command, DEFAULT_REVISION, Ending, HandshakeFault, JsonContent, JsonNode, LoginFault, Malformed,
    Mishear, NewGroup, NewIdentity, PhoneFault, Push, Refusal, Say, Scan, Settings, Shape, Silence, Target,
    TypedCode,
};
pub use contact::{CONTACTS, FIRST_CONTACT};
pub use counters::{Counters, Tally};
pub use fleet::{DEVICE, FIRST_USERNAME, Fleet, Keys, lid_user};
pub use hub::{Accept, Hub, Reply};
pub use owed::AnswerRule;
pub use peer::{Peer, Verdict};
pub use route::{ROUTES, RouteError};
pub use wording::{Mix, Wording};
pub use world::{ConnectionId, Cx, DeviceId, World};
