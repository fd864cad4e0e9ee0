//! JIDs: the addresses `user[_agent][:device]@server`. Source: docs/protocol.md, "JIDs".
//!
//! The text form is the identity. What few JIDs have stays inside `user`: an agent (`user_5`) and the
//! integrator of an interop JID (`5-15551234567`). Only servers whose accounts have devices take a
//! `:device`; elsewhere a colon is part of the user. So no part of an address is ever lost, whichever of
//! the five wire forms it came in.

use std::fmt;
use std::str::FromStr;

use crate::node::Str;
use crate::node::cursor::Cursor;
use crate::node::text::parse_u64;

/// What stands behind the `@`. `S` holds the names that are not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server<S> {
    /// `s.whatsapp.net`: accounts by phone number, and the server itself.
    Pn,
    /// `lid`: accounts by a number that hides the phone number.
    Lid,
    /// `hosted`: devices that a business has hosted, by phone number.
    Hosted,
    /// `hosted.lid`: the same by LID.
    HostedLid,
    /// `g.us`: groups.
    Group,
    /// `broadcast`: broadcast lists and status.
    Broadcast,
    /// `newsletter`: channels.
    Newsletter,
    /// `c.us`: accounts in an old form, still seen in places.
    Legacy,
    /// `call`: calls.
    Call,
    /// `msgr`: Messenger accounts.
    Messenger,
    /// `interop`: accounts of other networks.
    Interop,
    /// `bot`: bots.
    Bot,
    /// Any other name, never empty.
    Other(S),
}

impl<S> Server<S> {
    /// The server of that name, when it is one of the list.
    #[inline]
    pub fn known(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"s.whatsapp.net" => Self::Pn,
            b"lid" => Self::Lid,
            b"g.us" => Self::Group,
            b"broadcast" => Self::Broadcast,
            b"newsletter" => Self::Newsletter,
            b"hosted" => Self::Hosted,
            b"hosted.lid" => Self::HostedLid,
            b"c.us" => Self::Legacy,
            b"call" => Self::Call,
            b"msgr" => Self::Messenger,
            b"interop" => Self::Interop,
            b"bot" => Self::Bot,
            _ => return None,
        })
    }

    /// The name, or what holds it when it is not in the list.
    #[inline]
    pub const fn name(&self) -> Result<&'static str, &S> {
        Ok(match self {
            Self::Pn => "s.whatsapp.net",
            Self::Lid => "lid",
            Self::Hosted => "hosted",
            Self::HostedLid => "hosted.lid",
            Self::Group => "g.us",
            Self::Broadcast => "broadcast",
            Self::Newsletter => "newsletter",
            Self::Legacy => "c.us",
            Self::Call => "call",
            Self::Messenger => "msgr",
            Self::Interop => "interop",
            Self::Bot => "bot",
            Self::Other(name) => return Err(name),
        })
    }

    /// Whether a colon in the user part separates a device.
    pub const fn has_devices(&self) -> bool {
        matches!(
            self,
            Self::Pn | Self::Lid | Self::Hosted | Self::HostedLid | Self::Messenger | Self::Interop
        )
    }

    /// The server that a domain byte of an AD_JID stands for.
    #[inline]
    pub(crate) const fn of_domain(domain: u8) -> Option<Self> {
        Some(match domain {
            0 => Self::Pn,
            1 => Self::Lid,
            128 => Self::Hosted,
            129 => Self::HostedLid,
            _ => return None,
        })
    }

    /// The domain byte, for the servers that have one.
    pub(crate) const fn domain(&self) -> Option<u8> {
        Some(match self {
            Self::Pn => 0,
            Self::Lid => 1,
            Self::Hosted => 128,
            Self::HostedLid => 129,
            _ => return None,
        })
    }

    /// The address space of the user part: hosted devices share that of the account they belong to.
    fn space(self) -> Self {
        match self {
            Self::Hosted | Self::Legacy => Self::Pn,
            Self::HostedLid => Self::Lid,
            other => other,
        }
    }
}

/// An address, owned.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Jid {
    /// The user, with agent and integrator if there are any; empty for a server's own address.
    pub user: String,
    /// The device; 0 is the account's main device or the account as a whole.
    pub device: u16,
    /// The server.
    pub server: Server<Box<str>>,
}

impl Jid {
    /// An account or a group: no device.
    pub fn new(user: impl Into<String>, server: Server<Box<str>>) -> Self {
        Self { user: user.into(), device: 0, server }
    }

    /// One device of an account.
    pub fn device(user: impl Into<String>, device: u16, server: Server<Box<str>>) -> Self {
        Self { user: user.into(), device, server }
    }

    /// The address of a server itself: `@s.whatsapp.net`.
    pub const fn server(server: Server<Box<str>>) -> Self {
        Self { user: String::new(), device: 0, server }
    }

    /// The JID that this text is exactly, if its server is one of the list: for callers who have only text,
    /// such as `runner.wire`. Other text with an `@` in it is text.
    pub fn recognise(text: &str) -> Option<Self> {
        text.parse::<Self>().ok().filter(|jid| jid.server.name().is_ok())
    }

    /// The same without device.
    #[must_use]
    pub fn to_non_ad(&self) -> Self {
        Self { device: 0, ..self.clone() }
    }

    /// Whether both belong to one account, whichever its devices, hosted ones included.
    pub fn is_same_user(&self, other: &Self) -> bool {
        self.user == other.user && self.server.clone().space() == other.server.clone().space()
    }

    /// Whether it is the address of a server itself.
    pub fn is_server(&self) -> bool {
        self.user.is_empty()
    }

    /// The network behind an interop JID, and the user there.
    pub fn integrator(&self) -> Option<(u16, &str)> {
        if self.server != Server::Interop {
            return None;
        }
        let (integrator, user) = self.user.split_once('-')?;
        Some((canonical_u16(integrator)?, user))
    }

    /// The name of the server.
    pub fn server_name(&self) -> &str {
        self.server.name().unwrap_or_else(|name| name)
    }

    fn from_parts(mut user: String, server: Server<Box<str>>) -> Self {
        let mut device = 0;
        if server.has_devices()
            && let Some((before, after)) = user.rsplit_once(':')
            && let Some(number) = canonical_u16(after)
        {
            device = number;
            user.truncate(before.len());
        }
        Self { user, device, server }
    }
}

/// A decimal number that is written the way we would write it.
fn canonical_u16(digits: &str) -> Option<u16> {
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    parse_u64(digits.as_bytes())?.try_into().ok()
}

/// The text is not a JID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a jid: {0}")]
pub struct ParseJidError(&'static str);

impl FromStr for Jid {
    type Err = ParseJidError;

    fn from_str(text: &str) -> Result<Self, ParseJidError> {
        let (user, server) = text.split_once('@').ok_or(ParseJidError("no @"))?;
        if server.is_empty() {
            return Err(ParseJidError("no server behind the @"));
        }
        if server.contains('@') {
            return Err(ParseJidError("more than one @"));
        }
        let server = Server::known(server.as_bytes()).unwrap_or_else(|| Server::Other(server.into()));
        let jid = Self::from_parts(user.to_owned(), server);
        if jid.server.has_devices() && jid.user.contains(':') {
            return Err(ParseJidError("the device is not a number in 0..=65535"));
        }
        Ok(jid)
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        if self.device != 0 {
            write!(f, ":{}", self.device)?;
        }
        write!(f, "@{}", self.server_name())
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address inside a decoded node: its bytes, taken apart on demand. A copy of it is written as it was.
#[derive(Clone, Copy)]
pub struct JidRef<'a> {
    /// One JID, tag byte in front, that `decode` has found to be one.
    encoded: &'a [u8],
}

/// The parts of an address as the wire has them.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) form: Form,
    pub(crate) user: Str<'a>,
    pub(crate) device: u16,
    pub(crate) server: Server<Str<'a>>,
}

/// The wire forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Pair,
    Ad { domain: u8 },
    Messenger,
    Interop { integrator: u16 },
}

impl<'a> JidRef<'a> {
    #[inline]
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { encoded }
    }

    /// The bytes of the address, tag byte in front.
    #[inline]
    pub(crate) fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    #[inline]
    fn parts(&self) -> Parts<'a> {
        let nobody = Parts { form: Form::Pair, user: Str::Token(""), device: 0, server: Server::Pn };
        // The bytes were checked, so they always read.
        Cursor::new(self.encoded).jid().unwrap_or(nobody)
    }

    /// The user, without agent and integrator.
    pub fn user(&self) -> Str<'a> {
        self.parts().user
    }

    /// The device that the wire form names, else 0.
    pub fn device(&self) -> u16 {
        self.parts().device
    }

    /// The server.
    pub fn server(&self) -> Server<Str<'a>> {
        self.parts().server
    }

    /// Whether it is the address of a server itself.
    pub fn is_server(&self) -> bool {
        self.user().is_empty()
    }

    /// Whether both belong to one account, whichever its devices.
    pub fn is_same_user(&self, other: &Jid) -> bool {
        self.to_jid().is_same_user(other)
    }

    /// The address, owned. Malformed UTF-8 becomes U+FFFD.
    pub fn to_jid(&self) -> Jid {
        let parts = self.parts();
        let server = match parts.server.name() {
            Ok(name) => Server::known(name.as_bytes()).unwrap_or_else(|| Server::Other(name.into())),
            Err(name) => Server::Other(name.to_cow().into()),
        };
        let user = match (parts.integrator(), parts.agent()) {
            (None, None) => parts.user.to_cow().into_owned(),
            (Some(integrator), _) => format!("{integrator}-{}", parts.user),
            (None, Some(agent)) => format!("{}_{agent}", parts.user),
        };
        if parts.form == Form::Pair {
            return Jid::from_parts(user, server);
        }
        Jid { user, device: parts.device, server }
    }
}

impl Parts<'_> {
    /// The integrator in front of an interop user.
    fn integrator(&self) -> Option<u16> {
        match self.form {
            Form::Interop { integrator } => Some(integrator),
            _ => None,
        }
    }

    /// The domain byte, when it stands for no server: kept as an agent.
    fn agent(&self) -> Option<u8> {
        match self.form {
            Form::Ad { domain } if Server::<()>::of_domain(domain).is_none() => Some(domain),
            _ => None,
        }
    }

    /// What remains of the text behind this address; none when the text does not start with it.
    fn strip_from<'t>(&self, mut text: &'t [u8]) -> Option<&'t [u8]> {
        if let Some(integrator) = self.integrator() {
            text = strip_number(text, integrator)?.strip_prefix(b"-")?;
        }
        text = self.user.strip_from(text)?;
        if let Some(agent) = self.agent() {
            text = strip_number(text.strip_prefix(b"_")?, agent.into())?;
        }
        if self.device != 0 {
            text = strip_number(text.strip_prefix(b":")?, self.device)?;
        }
        text = text.strip_prefix(b"@")?;
        match self.server.name() {
            Ok(name) => text.strip_prefix(name.as_bytes()),
            Err(name) => name.strip_from(text),
        }
    }
}

/// Takes a decimal number from the front.
fn strip_number(text: &[u8], number: u16) -> Option<&[u8]> {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let (head, rest) = text.split_at_checked(digits)?;
    (parse_u64(head) == Some(number.into())).then_some(rest)
}

impl PartialEq<str> for JidRef<'_> {
    fn eq(&self, other: &str) -> bool {
        self.parts().strip_from(other.as_bytes()).is_some_and(<[u8]>::is_empty)
    }
}

impl PartialEq<&str> for JidRef<'_> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<Jid> for JidRef<'_> {
    fn eq(&self, other: &Jid) -> bool {
        self.to_jid() == *other
    }
}

impl PartialEq for JidRef<'_> {
    /// Whether both are the same text, however written.
    fn eq(&self, other: &Self) -> bool {
        self.to_jid() == other.to_jid()
    }
}

impl Eq for JidRef<'_> {}

impl fmt::Display for JidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        if let Some(integrator) = parts.integrator() {
            write!(f, "{integrator}-")?;
        }
        fmt::Display::fmt(&parts.user, f)?;
        if let Some(agent) = parts.agent() {
            write!(f, "_{agent}")?;
        }
        if parts.device != 0 {
            write!(f, ":{}", parts.device)?;
        }
        f.write_str("@")?;
        match parts.server.name() {
            Ok(name) => f.write_str(name),
            Err(name) => fmt::Display::fmt(name, f),
        }
    }
}

impl fmt::Debug for JidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
