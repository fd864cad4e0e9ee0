//! The channel from the outside: frames, WebSocket, Noise, certificates, payload.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are part of it")]

mod cert;
mod corpora;
mod frame;
mod handshake;
mod payload;
mod responder;
mod snow;
mod transport;
mod upgrade;
mod websocket;
