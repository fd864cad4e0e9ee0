//! Bodies of the fuzz targets. They live here so that ordinary tests can replay the corpora and feed them sequences
//! that mean something more often than random bytes do.

mod conversation;
mod decoders;
mod device;
mod group;

pub use conversation::conversation;
pub use decoders::{baileys_files, messages, records};
pub use device::{Commit, Device, Steps, place};
pub use group::group_conversation;
