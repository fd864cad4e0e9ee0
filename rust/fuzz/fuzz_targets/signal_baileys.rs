#![no_main]
//! Any bytes as a file of Baileys; the body is in `runner_signal::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_signal::fuzz::baileys_files(data));
