#![no_main]
//! Any bytes as WebSocket streams; the body is in `runner_proto::fuzz`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner_proto::fuzz::ws_stream(data));
