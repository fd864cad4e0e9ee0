#![no_main]
//! Any bytes as operations on a logged-in client; the body is in `runner_client::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_client::fuzz::message_ops(data));
