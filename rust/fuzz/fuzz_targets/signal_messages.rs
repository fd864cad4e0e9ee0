#![no_main]
//! Any bytes as a message; the body is in `runner_signal::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_signal::fuzz::messages(data));
