//! The client's payload of the handshake: who logs in, and as what; or what a new device registers with.
//!
//! Other fields are skipped when read. Source: docs/protocol.md, "Login payload" and "Registration payload".

// The derive's accessors carry no docs of their own.
#![allow(missing_docs)]

use md5::{Digest as _, Md5};
use prost::Message;

/// `UserAgent.platform` of a browser.
pub const PLATFORM_WEB: i32 = 14;

/// `connectType` of a client that does not know its network.
pub const CONNECT_TYPE_WIFI_UNKNOWN: i32 = 1;

/// `connectReason` of a connection that somebody asked for.
pub const CONNECT_REASON_USER_ACTIVATED: i32 = 1;

/// The encoded payload with which a linked device logs in, as an ordinary web client writes it.
///
/// `username` is the user part of the own JID, `device` its device number, `version` the client's
/// (`2.3000.N`). Carries exactly the fields {1, 3, 5, 6, 12, 13, 18, 33}, and 7 with a push name.
#[must_use]
pub fn login_payload(username: u64, device: u32, version: [u32; 3], push_name: Option<&str>) -> Vec<u8> {
    ClientPayload {
        username: Some(username),
        push_name: push_name.map(str::to_owned),
        device: Some(device),
        ..web_client(version, true)
    }
    .encode_to_vec()
}

/// What a new device tells the server of itself. All keys are public ones, 32 bytes raw.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// The Signal registration id.
    pub registration_id: u32,
    /// The Signal identity key.
    pub identity: [u8; 32],
    /// The id of the signed pre-key, below 2^24.
    pub signed_pre_key_id: u32,
    /// The signed pre-key.
    pub signed_pre_key: [u8; 32],
    /// XEdDSA by the identity key over `05` and the signed pre-key.
    pub signed_pre_key_signature: [u8; 64],
}

/// The encoded payload with which a device that is to be linked registers.
///
/// Carries exactly the fields {3, 5, 6, 12, 13, 19, 33}.
#[must_use]
pub fn registration_payload(version: [u32; 3], registration: &Registration) -> Vec<u8> {
    let [primary, secondary, tertiary] = version;
    let [_, key_id @ ..] = registration.signed_pre_key_id.to_be_bytes();
    let build = Md5::digest(format!("{primary}.{secondary}.{tertiary}"));
    ClientPayload {
        device_pairing_data: Some(DevicePairingData {
            registration_id: Some(registration.registration_id.to_be_bytes().to_vec()),
            key_type: Some(vec![KEY_TYPE]),
            identity: Some(registration.identity.to_vec()),
            signed_pre_key_id: Some(key_id.to_vec()),
            signed_pre_key: Some(registration.signed_pre_key.to_vec()),
            signed_pre_key_signature: Some(registration.signed_pre_key_signature.to_vec()),
            build_hash: Some(build.to_vec()),
            device_props: Some(device_props().encode_to_vec()),
        }),
        ..web_client(version, false)
    }
    .encode_to_vec()
}

/// What the phone shows in its list of linked devices, and how much history it is asked for: the least.
fn device_props() -> DeviceProps {
    let [primary, secondary, tertiary] = OS_VERSION;
    DeviceProps {
        os: Some(OS.to_owned()),
        version: Some(AppVersion {
            primary: Some(primary),
            secondary: Some(secondary),
            tertiary: Some(tertiary),
        }),
        platform_type: Some(PLATFORM_TYPE_CHROME),
        require_full_sync: Some(false),
        history_sync: Some(HistorySync { storage_quota_mb: Some(STORAGE_QUOTA_MB) }),
    }
}

/// The operating system that a new device claims; the one of the web clients that are known to be let in.
pub const OS: &str = "Mac OS";

const OS_VERSION: [u32; 3] = [10, 15, 7];

/// `DeviceProps.platformType` of Chrome.
pub const PLATFORM_TYPE_CHROME: i32 = 1;

/// As every client says.
const STORAGE_QUOTA_MB: u32 = 10_240;

/// The type of a Curve25519 key, in front of it wherever Signal writes or signs one.
pub const KEY_TYPE: u8 = 5;

/// What a login and a registration of a web client have in common.
fn web_client([primary, secondary, tertiary]: [u32; 3], logs_in: bool) -> ClientPayload {
    ClientPayload {
        passive: Some(logs_in),
        user_agent: Some(UserAgent {
            platform: Some(PLATFORM_WEB),
            app_version: Some(AppVersion {
                primary: Some(primary),
                secondary: Some(secondary),
                tertiary: Some(tertiary),
            }),
            mcc: Some("000".to_owned()),
            mnc: Some("000".to_owned()),
            os_version: Some("0.1".to_owned()),
            device: Some("Desktop".to_owned()),
            os_build_number: Some("0.1".to_owned()),
            release_channel: Some(0),
            locale_language: Some("en".to_owned()),
            locale_country: Some("US".to_owned()),
        }),
        web_info: Some(WebInfo { web_sub_platform: Some(0) }),
        connect_type: Some(CONNECT_TYPE_WIFI_UNKNOWN),
        connect_reason: Some(CONNECT_REASON_USER_ACTIVATED),
        pull: Some(logs_in),
        ..ClientPayload::default()
    }
}

/// Who logs in, and as what.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClientPayload {
    /// The user part of the own JID; absent in a registration.
    #[prost(uint64, optional, tag = "1")]
    pub username: Option<u64>,
    /// Whether the server holds offline stanzas back until asked.
    #[prost(bool, optional, tag = "3")]
    pub passive: Option<bool>,
    /// The program.
    #[prost(message, optional, tag = "5")]
    pub user_agent: Option<UserAgent>,
    /// The browser.
    #[prost(message, optional, tag = "6")]
    pub web_info: Option<WebInfo>,
    /// The name that others see.
    #[prost(string, optional, tag = "7")]
    pub push_name: Option<String>,
    /// The kind of network.
    #[prost(int32, optional, tag = "12")]
    pub connect_type: Option<i32>,
    /// Why this connection is made.
    #[prost(int32, optional, tag = "13")]
    pub connect_reason: Option<i32>,
    /// The own device number; absent in a registration.
    #[prost(uint32, optional, tag = "18")]
    pub device: Option<u32>,
    /// What a new device registers with; absent in a login.
    #[prost(message, optional, tag = "19")]
    pub device_pairing_data: Option<DevicePairingData>,
    /// Whether the client asks for offline stanzas itself.
    #[prost(bool, optional, tag = "33")]
    pub pull: Option<bool>,
}

/// The program and what it runs on.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserAgent {
    /// [`PLATFORM_WEB`] for us.
    #[prost(int32, optional, tag = "1")]
    pub platform: Option<i32>,
    /// The client version that the server may reject with failure 405.
    #[prost(message, optional, tag = "2")]
    pub app_version: Option<AppVersion>,
    /// Mobile country code.
    #[prost(string, optional, tag = "3")]
    pub mcc: Option<String>,
    /// Mobile network code.
    #[prost(string, optional, tag = "4")]
    pub mnc: Option<String>,
    /// Version of the operating system.
    #[prost(string, optional, tag = "5")]
    pub os_version: Option<String>,
    /// Kind of machine.
    #[prost(string, optional, tag = "7")]
    pub device: Option<String>,
    /// Build of the operating system.
    #[prost(string, optional, tag = "8")]
    pub os_build_number: Option<String>,
    /// 0 is a release.
    #[prost(int32, optional, tag = "10")]
    pub release_channel: Option<i32>,
    /// ISO 639-1.
    #[prost(string, optional, tag = "11")]
    pub locale_language: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[prost(string, optional, tag = "12")]
    pub locale_country: Option<String>,
}

/// A client version, `primary.secondary.tertiary`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AppVersion {
    /// 2.
    #[prost(uint32, optional, tag = "1")]
    pub primary: Option<u32>,
    /// 3000.
    #[prost(uint32, optional, tag = "2")]
    pub secondary: Option<u32>,
    /// The revision.
    #[prost(uint32, optional, tag = "3")]
    pub tertiary: Option<u32>,
}

/// The browser.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WebInfo {
    /// 0 is a browser.
    #[prost(int32, optional, tag = "4")]
    pub web_sub_platform: Option<i32>,
}

/// A new device's keys. Numbers are big-endian bytes here.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DevicePairingData {
    /// 4 bytes.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub registration_id: Option<Vec<u8>>,
    /// [`KEY_TYPE`].
    #[prost(bytes = "vec", optional, tag = "2")]
    pub key_type: Option<Vec<u8>>,
    /// 32 bytes.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub identity: Option<Vec<u8>>,
    /// 3 bytes.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub signed_pre_key_id: Option<Vec<u8>>,
    /// 32 bytes.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub signed_pre_key: Option<Vec<u8>>,
    /// 64 bytes.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub signed_pre_key_signature: Option<Vec<u8>>,
    /// MD5 of the client version's text.
    #[prost(bytes = "vec", optional, tag = "7")]
    pub build_hash: Option<Vec<u8>>,
    /// An encoded [`DeviceProps`].
    #[prost(bytes = "vec", optional, tag = "8")]
    pub device_props: Option<Vec<u8>>,
}

/// What a new device claims to be.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeviceProps {
    /// What the phone's list of linked devices shows.
    #[prost(string, optional, tag = "1")]
    pub os: Option<String>,
    /// Of that system.
    #[prost(message, optional, tag = "2")]
    pub version: Option<AppVersion>,
    /// [`PLATFORM_TYPE_CHROME`] for us.
    #[prost(int32, optional, tag = "3")]
    pub platform_type: Option<i32>,
    /// Whether all history is wanted.
    #[prost(bool, optional, tag = "4")]
    pub require_full_sync: Option<bool>,
    /// How much of it.
    #[prost(message, optional, tag = "5")]
    pub history_sync: Option<HistorySync>,
}

/// How much history a new device takes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HistorySync {
    /// MiB.
    #[prost(uint32, optional, tag = "3")]
    pub storage_quota_mb: Option<u32>,
}
