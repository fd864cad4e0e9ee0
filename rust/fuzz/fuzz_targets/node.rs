#![no_main]
//! Any bytes as a node; the body is in `runner_proto::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_proto::fuzz::node(data));
