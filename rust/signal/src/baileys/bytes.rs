//! Bytes in the forms that Baileys has written over the years.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::PublicKey;
use crate::key::Secret;

/// Bytes out of `{"type":"Buffer","data":…}` with base64 or numbers, bare base64, a list, or `{"0":…,"1":…}`.
#[derive(Default)]
pub(super) struct Bytes(Zeroizing<Vec<u8>>);

impl Bytes {
    pub(super) fn from_base64(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok().map(|bytes| Self(bytes.into()))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.as_slice().try_into().ok()
    }

    /// 32 secret bytes.
    pub(super) fn secret(&self) -> Option<Secret> {
        self.array().map(Secret::new)
    }

    /// A public key with its type byte, or without.
    pub(super) fn public(&self) -> Option<PublicKey> {
        match self.array() {
            Some(bytes) => Some(PublicKey::new(bytes)),
            None => PublicKey::from_wire(self.as_slice()).ok(),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms)
    }
}

struct Forms;

impl<'de> Visitor<'de> for Forms {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        STANDARD.decode(text).map(|bytes| Bytes(bytes.into())).map_err(|_| E::custom("not base64"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
        let mut bytes = Bytes::default();
        while let Some(byte) = list.next_element()? {
            bytes.0.push(byte);
        }
        Ok(bytes)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let mut bytes = Bytes::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match &*name {
                "data" => bytes = map.next_value()?,
                "type" => _ = map.next_value::<IgnoredAny>()?,
                // Ascending, as JavaScript writes such names.
                index if index.parse() == Ok(bytes.0.len()) => bytes.0.push(map.next_value()?),
                _ => return Err(A::Error::custom("neither a buffer nor a list")),
            }
        }
        Ok(bytes)
    }
}

/// Bytes as Node's `Buffer` becomes JSON.
#[derive(Serialize)]
pub(super) struct Buffer {
    #[serde(rename = "type")]
    kind: &'static str,
    data: Data,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Base64(String),
    Numbers(Vec<u8>),
}

impl Buffer {
    /// As Baileys' own replacer writes it.
    pub(super) fn base64(bytes: &[u8]) -> Self {
        Self { kind: "Buffer", data: Data::Base64(STANDARD.encode(bytes)) }
    }

    /// As JavaScript writes it when nobody replaces it.
    pub(super) fn numbers(bytes: &[u8]) -> Self {
        Self { kind: "Buffer", data: Data::Numbers(bytes.to_vec()) }
    }
}

/// Base64 of bytes.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
