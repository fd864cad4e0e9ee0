//! New devices, and the phone that links them: it scans a QR code, or has a code typed in.
//!
//! Nothing of a phone is stored: its account's key comes from the seed and the number, like everything else here.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use runner_proto::adv::{self, Consent, DeviceIdentity};
use runner_proto::jid::{Jid, Server};
use runner_proto::link_code::{self, ROUNDS, Stretch};
use runner_proto::node::{Content, Node, NodeRef};
use runner_proto::noise::{KeyPair, dh};
use runner_proto::payload::{DevicePairingData, KEY_TYPE};
use runner_proto::time::Instant;
use serde_json::{Map, Value, json};

use super::command::{PhoneFault, Scan, TypedCode};
use super::fleet::{FIRST_STRANGER, lid_user};
use super::hub::Hub;
use super::peer::Peer;
use super::receive::text;
use super::stanza;
use super::world::{ConnectionId, Cx, DeviceId, World};

/// References in one `<pair-device>`, and how long a phone may scan each.
const REFS: u32 = 6;
const FIRST: Duration = Duration::from_secs(60);
const OTHERS: Duration = Duration::from_secs(20);
/// A phone that scanned in time may need that long to say so.
const GRACE: Duration = Duration::from_secs(5);
/// Rounds of stretching between two looks at the sockets: about a millisecond. A real phone stretches on its own time.
const SLICE_ROUNDS: u32 = 2048;
/// The first device number that a phone gives away; `DEVICE` of the fleet is 1.
const FIRST_DEVICE: u32 = 2;

/// A device that no phone has linked yet, on its connection.
#[derive(Debug)]
pub(super) struct NewDevice {
    noise_public: [u8; 32],
    identity: [u8; 32],
    began_at: Instant,
    code: Option<Code>,
    /// The phone that links it is that of a business with this name.
    business: Option<String>,
    /// What its owner calls it.
    name: Option<String>,
    /// The phone said yes; what the device has to sign, and what happens then.
    consent: Option<(Consent, DeviceId, Option<PhoneFault>)>,
}

/// A code that the device offers to one phone.
#[derive(Debug)]
struct Code {
    phone: u64,
    wrapped: [u8; link_code::WRAPPED_LEN],
    reference: Vec<u8>,
    /// Somebody typed it, rightly or wrongly.
    typed: Option<Typed>,
}

#[derive(Debug)]
struct Typed {
    ephemeral: KeyPair,
    companion: [u8; 32],
    fault: Option<PhoneFault>,
}

/// A person has typed a code, and the phone stretches it: to open the device's key, and to wrap its own.
#[derive(Debug)]
pub(super) struct Typing {
    id: ConnectionId,
    phone: u64,
    fault: Option<PhoneFault>,
    offered: [u8; link_code::WRAPPED_LEN],
    salt: [u8; link_code::SALT_LEN],
    opens: Stretch,
    wraps: Stretch,
}

impl NewDevice {
    /// What a registration says; `None` when its keys are not what they should be.
    pub(super) fn read(data: &DevicePairingData, noise_public: [u8; 32], now: Instant) -> Option<Self> {
        let identity: [u8; 32] = data.identity.as_deref()?.try_into().ok()?;
        let pre_key = data.signed_pre_key.as_deref().filter(|key| key.len() == 32)?;
        let signature: [u8; 64] = data.signed_pre_key_signature.as_deref()?.try_into().ok()?;
        let signed = [&[KEY_TYPE][..], pre_key].concat();
        let sizes = [
            data.registration_id.as_ref().map(Vec::len) == Some(4),
            data.signed_pre_key_id.as_ref().map(Vec::len) == Some(3),
            data.build_hash.as_ref().map(Vec::len) == Some(16),
            data.device_props.is_some(),
        ];
        let is_good = runner_xeddsa::verify(&identity, &signed, &signature) && sizes.iter().all(|good| *good);
        is_good.then_some(Self {
            noise_public,
            identity,
            began_at: now,
            code: None,
            business: None,
            name: None,
            consent: None,
        })
    }
}

impl Peer {
    /// A registration came instead of a login: the phone can scan from now on.
    pub(super) fn begin_linking(&mut self, device: NewDevice, world: &mut World, cx: &Cx<'_>) {
        self.new_device = Some(Box::new(device));
        let refs = (0..REFS).map(|index| Node::new("ref").bytes(reference(self.id, index)));
        let pair_device = Node::new("pair-device").children(refs);
        self.ask_device("pair", pair_device, world, cx);
    }

    fn ask_device(&mut self, name: &str, child: Node, world: &mut World, cx: &Cx<'_>) {
        let iq = Node::new("iq")
            .attr_jid("from", stanza::server_jid())
            .attr("type", "set")
            .attr("id", format!("{name}{}", self.id))
            .attr("xmlns", "md")
            .attr("t", cx.unix_s().to_string())
            .child(child);
        self.note_owed(&iq, &[], world, cx);
        self.answer_node(&iq, world, cx);
    }

    /// The phone of `username` says yes to this device, under a secret that both know.
    fn consent(
        &mut self,
        account: DeviceId,
        adv_secret: &[u8; 32],
        fault: Option<PhoneFault>,
        world: &mut World,
        cx: &mut Cx<'_>,
    ) {
        let Some(device) = &mut self.new_device else { return };
        let (username, number) = account;
        world.promised.insert(account);
        let inner = DeviceIdentity {
            raw_id: Some(1),
            timestamp: Some(cx.unix_s()),
            key_index: Some(number),
            ..DeviceIdentity::default()
        };
        let mut random = [0; 64];
        cx.entropy.fill(&mut random);
        let secret = world.fleet().phone_keys(username).secret;
        let mut signed_for = device.identity;
        let mut adv_secret = *adv_secret;
        match fault {
            Some(PhoneFault::BadHmac) => adv_secret = [0; 32],
            Some(PhoneFault::BadSignature) => signed_for = [0; 32],
            _ => {}
        }
        let (bytes, consent) = adv::consent(&inner, &secret, &signed_for, &adv_secret, &random);
        device.consent = Some((consent, account, fault));
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let success = Node::new("pair-success")
            .child(Node::new("device-identity").bytes(bytes))
            .child(
                Node::new("device")
                    .attr_jid("jid", Jid::device(username.to_string(), number, Server::Pn))
                    .attr_jid("lid", Jid::device(lid_user(username), number, Server::Lid)),
            )
            .child(Node::new("platform").attr("name", "android"));
        let success = match device.business.take() {
            Some(name) => success.child(Node::new("biz").attr("name", name)),
            None => success,
        };
        if fault != Some(PhoneFault::Silent) {
            self.ask_device("pairok", success, world, cx);
        }
    }

    /// The device answered one of our requests; perhaps with its signature, and then it is linked.
    pub(super) fn on_device_answer(&mut self, iq: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        let Some(device) = &mut self.new_device else { return };
        if text(iq, "type") == "error" {
            let why = iq.child("error").map(|error| text(error, "text")).unwrap_or_default();
            return world.note(cx.unix_ms, "pairing-refused", self.id, None, &[("why", json!(why))]);
        }
        let signed = iq.child("pair-device-sign").and_then(|sign| sign.child("device-identity")?.bytes());
        let Some((bytes, (consent, account, fault))) = signed.zip(device.consent.take()) else { return };
        let signature = prost::Message::decode(bytes)
            .ok()
            .and_then(|signed: adv::SignedDeviceIdentity| signed.device_signature?.try_into().ok());
        if !signature.is_some_and(|signature| consent.is_signed_by(&device.identity, &signature)) {
            self.protocol_error("the device's signature does not match", world, cx);
            return self.fail(401, &Map::new(), world, cx);
        }
        let name = device.name.take();
        world.promised.remove(&account);
        world.register(account, device.noise_public);
        if let Some(account) = world.accounts.get_mut(&account) {
            account.name = name;
        }
        world.counters.paired += 1;
        let number = json!(account.1);
        world.note(cx.unix_ms, "paired", self.id, Some(account.0), &[("device", number)]);
        if fault != Some(PhoneFault::NoRestart) {
            self.goodbye(&stanza::stream_error(Some(515), None, &Map::new()), world, cx);
        }
    }

    /// The device offers a code, or finishes with the phone into which it was typed.
    pub(super) fn on_link_code(
        &mut self,
        iq: NodeRef<'_>,
        reg: NodeRef<'_>,
        world: &mut World,
        cx: &mut Cx<'_>,
    ) {
        if world.settings.link_code_error != 0 {
            return self.error(iq, world.settings.link_code_error, "refused", world, cx);
        }
        if text(reg, "stage") == "companion_finish" {
            self.result(iq, world, cx, None);
            return self.on_companion_finish(reg, world, cx);
        }
        match self.on_companion_hello(reg) {
            Some(reference) => {
                let answer = Node::new("link_code_companion_reg")
                    .attr("stage", "companion_hello")
                    .child(Node::new("link_code_pairing_ref").bytes(reference));
                world.note(cx.unix_ms, "code-offered", self.id, None, &[]);
                self.result(iq, world, cx, Some(answer));
            }
            None => self.error(iq, 400, "bad-request", world, cx),
        }
    }

    /// The reference of the offer; `None` when the server would not take it.
    fn on_companion_hello(&mut self, reg: NodeRef<'_>) -> Option<Vec<u8>> {
        let id = self.id;
        let device = self.new_device.as_mut()?;
        let phone = reg.attr("jid")?.to_jid()?.user.parse().ok()?;
        let wrapped = content(reg, "link_code_pairing_wrapped_companion_ephemeral_pub")?;
        let noise = content(reg, "companion_server_auth_key_pub")?;
        let display = String::from_utf8(content(reg, "companion_platform_display")?).ok()?;
        content(reg, "companion_platform_id").filter(|id| id.len() == 1)?;
        content(reg, "link_code_pairing_nonce")?;
        let is_browser_of_os = display.ends_with(')') && display.contains(" (");
        let reference = format!("code-{id}").into_bytes();
        let code =
            Code { phone, wrapped: wrapped.try_into().ok()?, reference: reference.clone(), typed: None };
        (noise == device.noise_public && is_browser_of_os).then(|| {
            device.code = Some(code);
            reference
        })
    }

    fn on_companion_finish(&mut self, reg: NodeRef<'_>, world: &mut World, cx: &mut Cx<'_>) {
        let Some(device) = &self.new_device else { return };
        let Some((code, typed)) = device.code.as_ref().and_then(|code| Some((code, code.typed.as_ref()?)))
        else {
            return;
        };
        let account = world.fleet().phone_keys(code.phone);
        let bundle =
            content(reg, "link_code_pairing_wrapped_key_bundle").and_then(|bytes| bytes.try_into().ok());
        let agreed = bundle.and_then(|bundle| {
            let ephemeral = dh(&typed.ephemeral, &typed.companion).ok()?;
            let opened = link_code::open_bundle(&ephemeral, &bundle)?;
            let is_ours = opened.companion == device.identity && opened.primary == account.public;
            let identity = dh(&KeyPair::from_secret(account.secret), &device.identity).ok()?;
            is_ours.then(|| link_code::adv_secret(&ephemeral, &identity, &opened.share))
        });
        let (phone, fault) = (code.phone, typed.fault);
        match agreed {
            Some(secret) => {
                let number = world.free_device(phone);
                self.consent((phone, number), &secret, fault, world, cx);
            }
            None => world.note(cx.unix_ms, "code-wrong", self.id, None, &[]),
        }
    }
}

impl Hub {
    /// A phone scans a QR code.
    pub(super) fn scan(&mut self, scan: &Scan, cx: &mut Cx<'_>) -> Result<Value, String> {
        let text = scan.qr.split_once('#').map_or(scan.qr.as_str(), |(_, text)| text);
        let parts: Vec<_> = text.split(',').collect();
        // The platform is the last of five; whatsmeow leaves it out, and phones take that.
        let [reference_text, noise, identity, adv_secret, ..] = parts[..] else {
            return Err("this is no QR code of a device to link: it has four or five parts".to_owned());
        };
        let key = |what: &str, text: &str| -> Result<[u8; 32], String> {
            let bytes = BASE64.decode(text).map_err(|error| format!("the {what} is not base64: {error}"))?;
            bytes.try_into().map_err(|_| format!("the {what} is not 32 bytes"))
        };
        let noise = key("Noise key", noise)?;
        let (identity, adv_secret) = (key("identity key", identity)?, key("secret", adv_secret)?);
        let (id, index) = read_reference(reference_text).ok_or("the server gave out no such reference")?;
        let peer = self.peers.get_mut(&id).ok_or("the device is not connected any more")?;
        let device = peer.new_device.as_ref().ok_or("the device is linked already")?;
        let until = device.began_at + FIRST + OTHERS * index + GRACE;
        if cx.now > until {
            return Err("the code has expired; scan the one that is shown now".to_owned());
        }
        if noise != device.noise_public || identity != device.identity {
            return Err("the code is not of the device that it names".to_owned());
        }
        let phone = match (&scan.jid, scan.phone) {
            (Some(jid), _) => jid.user.parse().map_err(|_| "the jid has no number".to_owned())?,
            (None, Some(phone)) => phone,
            (None, None) => self.world.free_phone(),
        };
        let number = match &scan.jid {
            Some(jid) if jid.device != 0 => u32::from(jid.device),
            _ => self.world.free_device(phone),
        };
        if let Some(device) = &mut peer.new_device {
            device.business.clone_from(&scan.business);
            device.name.clone_from(&scan.name);
        }
        peer.consent((phone, number), &adv_secret, scan.fault, &mut self.world, cx);
        self.touch(id, cx);
        Ok(told(id, (phone, number)))
    }

    /// Somebody types a code into a phone. Whether it was the right one shows in the events.
    pub(super) fn enter_code(&mut self, typed: &TypedCode, cx: &mut Cx<'_>) -> Result<Value, String> {
        let code = link_code::parse_code(&typed.code).ok_or("a code has 8 characters of 1-9 and A-Z")?;
        let (phone, fault) = (typed.phone, typed.fault);
        let offer = self.peers.values().find_map(|peer| {
            let code = peer.new_device.as_ref()?.code.as_ref().filter(|code| code.phone == phone)?;
            Some((peer.id, code.wrapped))
        });
        let (id, offered) = offer.ok_or("no device offers a code to this phone")?;
        let mut salt = [0; link_code::SALT_LEN];
        cx.entropy.fill(&mut salt);
        let opens = Stretch::new(&code, &link_code::salt_of(&offered), ROUNDS);
        let wraps = Stretch::new(&code, &salt, ROUNDS);
        self.typing.push_back(Typing { id, phone, fault, offered, salt, opens, wraps });
        Ok(json!({ "sid": id, "phone": phone.to_string() }))
    }

    /// The phones into which codes were typed, one after the other, go on a little.
    pub(super) fn go_on_typing(&mut self, cx: &mut Cx<'_>) {
        let Some(typing) = self.typing.front_mut() else { return };
        let Some(opening) = typing.opens.advance(SLICE_ROUNDS) else { return };
        let Some(wrapping) = typing.wraps.advance(SLICE_ROUNDS) else { return };
        let Some(Typing { id, phone, fault, offered, salt, .. }) = self.typing.pop_front() else { return };
        let (mut secret, mut iv) = ([0; 32], [0; 16]);
        cx.entropy.fill(&mut secret);
        cx.entropy.fill(&mut iv);
        let ephemeral = KeyPair::from_secret(secret);
        let wrapped = link_code::wrap(&wrapping, &salt, iv, ephemeral.public());
        let companion = link_code::unwrap(&opening, &offered);
        // The device may have gone, or may offer another code by now.
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let offer = peer.new_device.as_mut().and_then(|device| device.code.as_mut());
        let Some(offer) = offer.filter(|offer| offer.wrapped == offered) else { return };
        let reference = offer.reference.clone();
        offer.typed = Some(Typed { ephemeral, companion, fault });
        let identity = self.world.fleet().phone_keys(phone).public;
        let child = |tag: &str, bytes: &[u8]| Node::new(tag).bytes(bytes.to_vec());
        let hello = Node::new("link_code_companion_reg")
            .attr("stage", "primary_hello")
            .child(child("link_code_pairing_wrapped_primary_ephemeral_pub", &wrapped))
            .child(child("primary_identity_pub", &identity))
            .child(child("link_code_pairing_ref", &reference));
        let notification = Node::new("notification")
            .attr_jid("from", stanza::server_jid())
            .attr("type", "link_code_companion_reg")
            .attr("id", self.world.next_stanza_id())
            .attr("t", cx.unix_s().to_string())
            .child(hello);
        peer.push(&notification, &mut self.world, cx);
        self.touch(id, cx);
    }
}

fn told(id: ConnectionId, (username, number): DeviceId) -> Value {
    json!({
        "sid": id,
        "jid": format!("{username}:{number}@s.whatsapp.net"),
        "lid": format!("{}:{number}@lid", lid_user(username)),
    })
}

fn reference(id: ConnectionId, index: u32) -> Vec<u8> {
    format!("2@sim-{id}-{index}").into_bytes()
}

fn read_reference(text: &str) -> Option<(ConnectionId, u32)> {
    let (id, index) = text.strip_prefix("2@sim-")?.split_once('-')?;
    Some((id.parse().ok()?, index.parse().ok().filter(|index| *index < REFS)?))
}

/// The content of a child, bytes or text: some clients write short bytes as text.
fn content(node: NodeRef<'_>, tag: &str) -> Option<Vec<u8>> {
    match node.child(tag)?.content() {
        Content::Bytes(bytes) => Some(bytes.to_vec()),
        other => Some(other.as_text()?.to_string().into_bytes()),
    }
}

impl World {
    /// The lowest number that this phone has not given to a device.
    fn free_device(&self, username: u64) -> u32 {
        let is_free = |number: &u32| {
            let device = (username, *number);
            !self.accounts.contains_key(&device) && !self.promised.contains(&device)
        };
        (FIRST_DEVICE..).find(is_free).unwrap_or(FIRST_DEVICE)
    }

    /// The lowest number of a phone that has no device here.
    fn free_phone(&self) -> u64 {
        let is_taken =
            |phone: u64| self.accounts.keys().chain(&self.promised).any(|(username, _)| *username == phone);
        (FIRST_STRANGER..).find(|phone| !is_taken(*phone)).unwrap_or(FIRST_STRANGER)
    }
}
