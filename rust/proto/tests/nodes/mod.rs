//! Random nodes for property tests.

use proptest::prelude::*;
use runner_proto::jid::{Jid, Server};
use runner_proto::node::{AttrValue, Node, NodeContent};
use runner_proto::token;

fn any_token() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        (1u8..=235).prop_map(|index| token::single(index).expect("a token").to_owned()),
        (0u8..4, any::<u8>())
            .prop_map(|(table, index)| token::double(table, index).expect("a token").to_owned()),
    ]
}

fn any_text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        3 => any_token(),
        2 => "[0-9.-]{1,130}",
        2 => "[0-9A-F]{1,130}",
        1 => "[0-9A-F.-]{1,20}",
        2 => "[a-z@:_0-9]{0,60}",
        1 => any::<String>(),
        1 => "x{250,260}",
    ]
}

fn any_server() -> impl Strategy<Value = Server<Box<str>>> + Clone {
    prop_oneof![
        Just(Server::Pn),
        Just(Server::Lid),
        Just(Server::Hosted),
        Just(Server::HostedLid),
        Just(Server::Group),
        Just(Server::Broadcast),
        Just(Server::Newsletter),
        Just(Server::Legacy),
        Just(Server::Call),
        Just(Server::Messenger),
        Just(Server::Bot),
        "[a-z]{1,8}\\.example".prop_map(|name| Server::Other(name.into())),
    ]
}

/// An address of any kind.
pub(crate) fn any_jid() -> impl Strategy<Value = Jid> + Clone {
    let device = prop_oneof![2 => Just(0), 3 => 1u16..=255, 1 => any::<u16>()];
    let user = prop_oneof![
        "[0-9]{5,18}",
        Just(String::new()),
        "[a-z.é_-]{1,12}",
        "[0-9]{5,12}-[0-9]{10}",
        any_token()
    ];
    let plain = (user.clone(), device.clone(), any_server()).prop_map(|(user, device, server)| {
        // Token strings can hold a colon, and only some servers know devices.
        let user = user.replace([':', '@'], "");
        let device = if server.has_devices() { device } else { 0 };
        Jid { user, device, server }
    });
    let interop = (1..=u16::MAX, "[0-9]{5,15}", device).prop_map(|(integrator, user, device)| Jid {
        user: format!("{integrator}-{user}"),
        device,
        server: Server::Interop,
    });
    prop_oneof![5 => plain, 1 => interop]
}

/// A tree with every kind of string, address and content.
pub(crate) fn any_node() -> impl Strategy<Value = Node> {
    let value =
        prop_oneof![3 => any_text().prop_map(AttrValue::Str), 2 => any_jid().prop_map(AttrValue::Jid)];
    let attrs = prop::collection::vec((any_text(), value), 0..6).boxed();
    let tag = any_text().prop_filter("a tag is never empty", |tag| !tag.is_empty()).boxed();
    let content = prop_oneof![
        Just(NodeContent::None),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(NodeContent::Bytes),
        any_text().prop_map(NodeContent::Text),
        any_jid().prop_map(NodeContent::Jid),
    ];
    let leaf =
        (tag.clone(), attrs.clone(), content).prop_map(|(tag, attrs, content)| Node { tag, attrs, content });
    leaf.prop_recursive(5, 40, 6, move |child| {
        let children = prop::collection::vec(child, 0..6).prop_map(NodeContent::Nodes);
        (tag.clone(), attrs.clone(), children).prop_map(|(tag, attrs, content)| Node { tag, attrs, content })
    })
}
