#![no_main]
//! Any bytes as what a writer, a reader and the network between them do; the body is in `runner_signal::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_signal::fuzz::group_conversation(data));
