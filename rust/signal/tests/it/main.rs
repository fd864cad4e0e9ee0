//! Tests of the crate as its user sees it.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are part of it")]

mod session;
mod support;
