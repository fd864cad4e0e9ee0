//! The checked-in token table is what its generator makes of `tests/vectors/tokens.json`.

#[path = "../examples/gen_tokens.rs"]
#[allow(dead_code)]
mod gen_tokens;

#[test]
fn regenerating_the_token_table_changes_nothing() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let dictionaries = serde_json::from_str(&read("../../tests/vectors/tokens.json")).unwrap();
    assert!(
        gen_tokens::generate(&dictionaries) == read("src/token_table.rs"),
        "run `cargo run -p runner-proto --example gen_tokens > rust/proto/src/token_table.rs`"
    );
}
