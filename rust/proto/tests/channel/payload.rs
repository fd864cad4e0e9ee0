//! The login payload, byte by byte.

use prost::Message;
use runner_proto::payload::{AppVersion, ClientPayload, login_payload};

/// Field numbers of a message, in the order of the wire.
fn fields(mut message: &[u8]) -> Vec<u64> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut numbers = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = varint(&mut message);
        match key & 7 {
            0 => {}
            2 => message = &message[value as usize..],
            kind => panic!("wire type {kind}"),
        }
        numbers.push(key >> 3);
    }
    numbers
}

#[test]
fn a_login_has_exactly_the_fields_that_web_clients_share() {
    let payload = login_payload(491_701_234_567, 12, [2, 3000, 1_035_194_821], None);
    assert_eq!(fields(&payload), [1, 3, 5, 6, 12, 13, 18, 33]);
    let payload = login_payload(491_701_234_567, 12, [2, 3000, 1_035_194_821], Some("Support"));
    assert_eq!(fields(&payload), [1, 3, 5, 6, 7, 12, 13, 18, 33]);
}

#[test]
fn a_login_says_what_a_web_client_says() {
    let payload = login_payload(491_701_234_567, 12, [2, 3000, 1_035_194_821], Some("Support"));
    let payload = ClientPayload::decode(payload.as_slice()).unwrap();
    assert_eq!((payload.username, payload.device), (Some(491_701_234_567), Some(12)));
    assert_eq!(payload.push_name.as_deref(), Some("Support"));
    assert_eq!((payload.passive, payload.pull), (Some(true), Some(true)));
    assert_eq!((payload.connect_type, payload.connect_reason), (Some(1), Some(1)));
    assert_eq!(payload.web_info.unwrap().web_sub_platform, Some(0));
    let agent = payload.user_agent.unwrap();
    let version = AppVersion { primary: Some(2), secondary: Some(3000), tertiary: Some(1_035_194_821) };
    assert_eq!((agent.platform, agent.app_version), (Some(14), Some(version)));
    assert_eq!((agent.mcc(), agent.mnc()), ("000", "000"));
    assert_eq!((agent.os_version(), agent.device(), agent.os_build_number()), ("0.1", "Desktop", "0.1"));
    assert_eq!((agent.locale_language(), agent.locale_country()), ("en", "US"));
    assert_eq!(agent.release_channel, Some(0));
}

#[test]
fn a_payload_of_another_client_is_readable() {
    // Fields that we never send: lc (24), lidDbMigrated (41), manufacturer (6) inside the user agent.
    let mut bytes = login_payload(1, 2, [2, 3000, 4], None);
    bytes.extend_from_slice(&[0xc0, 0x01, 0x01, 0xc8, 0x02, 0x01, 0x2a, 0x02, 0x32, 0x00]);
    let payload = ClientPayload::decode(bytes.as_slice()).unwrap();
    assert_eq!((payload.username, payload.device), (Some(1), Some(2)));
    assert_eq!(payload.user_agent.unwrap().platform, Some(14));
}
