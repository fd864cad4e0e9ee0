#![no_main]
//! Any bytes as a record; the body is in `runner_signal::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_signal::fuzz::records(data));
