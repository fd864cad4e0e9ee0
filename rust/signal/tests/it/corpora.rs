//! The corpora of the fuzz targets, replayed without a fuzzer.

use std::path::Path;

use runner_signal::fuzz;

#[expect(clippy::disallowed_methods, reason = "the test reads files, what it tests does not")]
fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is there") {
        body(&std::fs::read(entry.expect("an entry").path()).expect("readable"));
        inputs += 1;
    }
    assert!(inputs >= 30, "{inputs} inputs of {target}");
}

#[test]
fn records() {
    replay("signal_records", fuzz::records);
}

#[test]
fn messages() {
    replay("signal_messages", fuzz::messages);
}

#[test]
fn files_of_baileys() {
    replay("signal_baileys", fuzz::baileys_files);
}

#[test]
fn conversations() {
    replay("signal_conversation", fuzz::conversation);
}

#[test]
fn groups() {
    replay("signal_group", fuzz::group_conversation);
}
