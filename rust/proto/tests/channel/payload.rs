//! The login payload, byte by byte.

use prost::Message;
use runner_proto::payload::{
    AppVersion, ClientPayload, DeviceProps, KEY_TYPE, Registration, login_payload, registration_payload,
};

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

#[test]
fn a_registration_has_exactly_the_fields_that_web_clients_share_and_its_keys_verify() {
    let secret = [7; 32];
    let pre_key = runner_xeddsa::public_from_secret(&[8; 32]);
    let signed = [&[KEY_TYPE][..], &pre_key].concat();
    let registration = Registration {
        registration_id: 0x1234,
        identity: runner_xeddsa::public_from_secret(&secret),
        signed_pre_key_id: 1,
        signed_pre_key: pre_key,
        signed_pre_key_signature: runner_xeddsa::sign(&secret, &signed, &[9; 64]),
    };
    let payload = registration_payload([2, 3000, 1_035_194_821], &registration);
    assert_eq!(fields(&payload), [3, 5, 6, 12, 13, 19, 33]);
    let payload = ClientPayload::decode(payload.as_slice()).unwrap();
    assert_eq!(
        (payload.username, payload.device, payload.passive, payload.pull),
        (None, None, Some(false), Some(false))
    );
    let data = payload.device_pairing_data.unwrap();
    assert_eq!(data.registration_id(), [0, 0, 0x12, 0x34]);
    assert_eq!((data.key_type(), data.signed_pre_key_id()), (&[5][..], &[0, 0, 1][..]));
    // `printf 2.3000.1035194821 | md5sum`
    let build: String = data.build_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(build, "a2c9471eff910a9e1ae659890a28872d");
    let identity = data.identity().try_into().unwrap();
    let signature = data.signed_pre_key_signature().try_into().unwrap();
    assert!(runner_xeddsa::verify(&identity, &[&[5], data.signed_pre_key()].concat(), &signature));
    let props = DeviceProps::decode(data.device_props()).unwrap();
    assert_eq!((props.os(), props.platform_type(), props.require_full_sync()), ("Mac OS", 1, false));
}
