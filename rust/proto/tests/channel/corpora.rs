//! The corpora of the channel's fuzz targets, replayed; the bodies assert.

use runner_proto::fuzz;

#[allow(clippy::disallowed_methods, reason = "a test reads files, the library does not")]
fn replay(target: &str, body: fn(&[u8])) {
    let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn frame_streams() {
    replay("frame_stream", fuzz::frame_stream);
}

#[test]
fn websocket_streams() {
    replay("ws_stream", fuzz::ws_stream);
}

#[test]
fn server_hellos() {
    replay("noise_handshake", fuzz::noise_handshake);
}

#[test]
fn transport_frames() {
    replay("noise_transport", fuzz::noise_transport);
}
