//! From the upgrade to online: what is sent, what is told, what is kept.

mod support;

use runner_client::{Event, Write};
use runner_proto::{noise::Pattern, phase::Phase};
use support::{World, device, peer::attr};

#[test]
fn a_login_passes_every_phase_and_greets_like_a_web_client() {
    let mut world = World::new(device());
    world.open();
    let phases: Vec<_> = world
        .events()
        .filter_map(|event| match event {
            Event::Phase(phase) => Some(*phase),
            _ => None,
        })
        .collect();
    assert_eq!(phases, [Phase::Upgrading, Phase::Handshaking, Phase::Authenticating, Phase::Online]);
    assert!(world.events().any(|event| matches!(event, Event::Online { handshake: Pattern::Xx, .. })));
    let said: Vec<_> = world
        .peer
        .received
        .iter()
        .map(|stanza| {
            let child = stanza.nodes().first().map(|child| child.tag.clone()).unwrap_or_default();
            (stanza.tag.clone(), attr(stanza, "xmlns"), child)
        })
        .collect();
    let expected = [
        ("iq", "encrypt", "count"),
        ("iq", "passive", "active"),
        ("ib", "", "unified_session"),
        ("presence", "", ""),
        ("iq", "abt", "props"),
        ("iq", "blocklist", ""),
        ("iq", "privacy", "privacy"),
    ]
    .map(|(tag, xmlns, child)| (tag.to_owned(), xmlns.to_owned(), child.to_owned()));
    assert_eq!(said, expected);
    assert_eq!(attr(world.peer.received_with("presence")[0], "name"), "Bobwork");
    let writes: Vec<_> = world.writes().collect();
    assert!(matches!(writes[..], [Write::ServerChain(_), Write::Lid(_)]), "{writes:?}");
}
