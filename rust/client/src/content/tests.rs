use super::*;

/// A length-delimited field.
fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(content.len() as u64));
    out.extend(content);
    out
}

fn number(field: u32, value: u64) -> Vec<u8> {
    let mut out = varint(u64::from(field) << 3);
    out.extend(varint(value));
    out
}

fn double(field: u32, value: f64) -> Vec<u8> {
    let mut out = varint(u64::from(field) << 3 | 1);
    out.extend(value.to_le_bytes());
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn message_key(id: &str) -> Vec<u8> {
    [bytes(1, b"15550001111@s.whatsapp.net"), number(2, 1), bytes(3, id.as_bytes())].concat()
}

fn view(message: &[u8]) -> View<'_> {
    View::read(message).expect("a message")
}

#[test]
fn a_text_is_read_in_both_of_its_forms() {
    let short = bytes(1, "olá".as_bytes());
    assert_eq!((view(&short).kind, view(&short).text), (Kind::Text, Some("olá")));
    let context = [
        bytes(1, b"QUOTED"),
        bytes(2, b"15550003333@s.whatsapp.net"),
        bytes(15, b"15550004444@s.whatsapp.net"),
        bytes(15, b"15550005555@s.whatsapp.net"),
        number(22, 1),
    ]
    .concat();
    let long = bytes(6, &[bytes(1, b"see https://example.org"), bytes(17, &context)].concat());
    let read = view(&long);
    assert_eq!((read.kind, read.text), (Kind::Text, Some("see https://example.org")));
    let quoted = read.quoted.expect("a quote");
    assert_eq!((quoted.id, quoted.participant), (Some("QUOTED"), Some("15550003333@s.whatsapp.net")));
    assert_eq!(read.mentions, ["15550004444@s.whatsapp.net", "15550005555@s.whatsapp.net"]);
    assert!(read.is_forwarded && !read.is_view_once);
}

#[test]
fn attached_files_have_their_words_and_their_header() {
    let image = [
        bytes(1, b"https://mmg.whatsapp.net/x"),
        bytes(2, b"image/jpeg"),
        bytes(3, b"a caption"),
        bytes(4, &[4; 32]),
        number(5, 123_456),
        number(6, 600),
        number(7, 800),
        bytes(8, &[8; 32]),
        bytes(9, &[9; 32]),
        bytes(11, b"/v/t62"),
    ]
    .concat();
    let wrapped = bytes(40, &bytes(1, &bytes(55, &bytes(1, &bytes(3, &image)))));
    let read = view(&wrapped);
    assert_eq!((read.kind, read.text, read.is_view_once), (Kind::Image, Some("a caption"), true));
    let media = read.media.expect("a file");
    assert_eq!(
        (media.mime_type, media.file_bytes, media.width, media.height),
        (Some("image/jpeg"), Some(123_456), Some(800), Some(600))
    );
    assert_eq!(
        (media.key, media.sha256, media.encrypted_sha256),
        (Some(&[8; 32][..]), Some(&[4; 32][..]), Some(&[9; 32][..]))
    );

    let voice = bytes(8, &[bytes(2, b"audio/ogg; codecs=opus"), number(5, 7), number(6, 1)].concat());
    let media = view(&voice).media.expect("a file");
    assert_eq!((media.duration_s, media.is_voice_note), (Some(7), true));

    let document = bytes(53, &bytes(1, &bytes(7, &[bytes(8, b"a.pdf"), bytes(20, b"the bill")].concat())));
    let read = view(&document);
    assert_eq!((read.kind, read.text), (Kind::Document, Some("the bill")));
    assert_eq!(read.media.and_then(|media| media.file_name), Some("a.pdf"));
}

#[test]
fn what_is_about_another_message_names_it() {
    let reaction = bytes(46, &[bytes(1, &message_key("A")), bytes(2, "👍".as_bytes())].concat());
    let read = view(&reaction);
    assert_eq!((read.kind, read.text), (Kind::Reaction, Some("👍")));
    let target = read.target.expect("a target");
    assert_eq!((target.id, target.is_from_me), (Some("A"), true));

    let edit = [bytes(1, &message_key("B")), number(2, 14), bytes(14, &bytes(1, b"better"))].concat();
    let edit = bytes(58, &bytes(1, &bytes(12, &edit)));
    let read = view(&edit);
    assert_eq!(
        (read.kind, read.text, read.target.and_then(|key| key.id)),
        (Kind::Edit, Some("better"), Some("B"))
    );

    // Protobuf leaves a zero out: a revoke has no type.
    let revoke = bytes(12, &bytes(1, &message_key("C")));
    assert_eq!((view(&revoke).kind, view(&revoke).target.and_then(|key| key.id)), (Kind::Revoke, Some("C")));
    let share = bytes(12, &[number(2, 6), bytes(7, b"")].concat());
    assert_eq!(view(&share).kind, Kind::Protocol);
}

#[test]
fn an_own_other_devices_message_says_where_it_went() {
    let sent = bytes(31, &[bytes(1, b"15550002222@s.whatsapp.net"), bytes(2, &bytes(1, b"hi"))].concat());
    let read = view(&sent);
    assert_eq!(
        (read.kind, read.text, read.destination),
        (Kind::Text, Some("hi"), Some("15550002222@s.whatsapp.net"))
    );
}

#[test]
fn a_sender_key_alone_is_told_from_one_beside_a_text() {
    let key = bytes(2, &[bytes(1, b"1@g.us"), bytes(2, b"\x33key")].concat());
    let alone = [key.clone(), bytes(35, &bytes(3, &[1; 32]))].concat();
    assert_eq!(view(&alone).kind, Kind::KeyDistribution);
    assert_eq!(has_more(&alone), Ok(false));
    assert_eq!(key_distribution(&alone), Ok(Some(("1@g.us", &b"\x33key"[..]))));
    let both = [key.clone(), bytes(1, b"hi")].concat();
    assert_eq!((view(&both).kind, has_more(&both)), (Kind::Text, Ok(true)));
    // A kind of tomorrow beside a sender key is a message.
    let unknown = [key, bytes(500, b"new")].concat();
    assert_eq!((view(&unknown).kind, has_more(&unknown)), (Kind::Unknown, Ok(true)));
}

#[test]
fn places_polls_and_choices_are_read() {
    let place = bytes(5, &[double(1, -8.05), double(2, -34.9), bytes(3, b"Recife")].concat());
    let read = view(&place);
    assert_eq!((read.kind, read.text), (Kind::Location, Some("Recife")));
    assert_eq!(read.place, Some(Place { latitude: -8.05, longitude: -34.9 }));
    assert_eq!(view(&bytes(64, &bytes(2, b"lunch?"))).text, Some("lunch?"));
    let chosen = bytes(39, &[bytes(1, b"Title"), bytes(3, &bytes(1, b"row-7"))].concat());
    assert_eq!((view(&chosen).kind, view(&chosen).text), (Kind::Choice, Some("row-7")));
}

#[test]
fn hostile_bytes_are_an_error_and_never_a_panic() {
    assert_eq!(View::read(&[0x0a, 0x05, b'h']), Err(Malformed));
    let mut deep = bytes(1, b"hi");
    for _ in 0..100 {
        deep = bytes(40, &bytes(1, &deep));
    }
    assert_eq!(View::read(&deep), Err(Malformed));
    assert_eq!(view(&[]).kind, Kind::Unknown);
    assert_eq!(view(&bytes(1, &[0xff, 0xfe])).text, None, "not UTF-8");
}
