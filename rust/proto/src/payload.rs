//! The client's payload of the handshake: who logs in, and as what.
//!
//! Only what a login needs; the fields of a registration come with pairing. Other fields are skipped
//! when read. Source: docs/protocol.md, "Login payload".

// The derive's accessors carry no docs of their own.
#![allow(missing_docs)]

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
    let [primary, secondary, tertiary] = version;
    ClientPayload {
        username: Some(username),
        passive: Some(true),
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
        push_name: push_name.map(str::to_owned),
        connect_type: Some(CONNECT_TYPE_WIFI_UNKNOWN),
        connect_reason: Some(CONNECT_REASON_USER_ACTIVATED),
        device: Some(device),
        pull: Some(true),
    }
    .encode_to_vec()
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
