//! docs/simulator.md names everything that the control port understands.

use runner_sim::core::{ROUTES, Settings};

const MANUAL: &str = include_str!("../../../docs/simulator.md");

#[test]
fn the_manual_has_every_route_and_every_setting() {
    for (method, path) in ROUTES {
        assert!(
            MANUAL.contains(&format!("`{method} {path}")) || MANUAL.contains(&format!("`{path}`")),
            "{method} {path}"
        );
    }
    let settings = serde_json::to_value(Settings::default()).expect("settings");
    for name in settings.as_object().expect("an object").keys() {
        assert!(MANUAL.contains(&format!("`{name}`")), "{name}");
    }
}
