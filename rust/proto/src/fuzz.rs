//! Bodies of the fuzz targets in `rust/fuzz`: each takes any bytes and must return.
//!
//! They live here so that an ordinary test can replay the corpora.

mod channel;
mod node;

pub use channel::{frame_stream, noise_handshake, noise_transport, ws_stream};
pub use node::node;
