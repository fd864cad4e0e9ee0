"""Devices of no account: keys that nobody holds, for tests and benches of the boundary."""

import os

from runner import _core


def device(jid: str, secret: bytes) -> _core.DeviceRecord:
    """Credentials in which every key is `secret`."""
    return _core.DeviceRecord(
        jid=jid,
        lid=None,
        push_name=None,
        platform=None,
        registration_id=1,
        noise_secret=secret,
        identity_secret=secret,
        signed_pre_key_id=1,
        signed_pre_key_secret=secret,
        signed_pre_key_signature=bytes(64),
        adv_secret=secret,
        account=None,
        routing_info=None,
        source=b"{}",
    )


def import_device(store: _core.Store, session_id: str, jid: str = "15550001111:3@s.whatsapp.net") -> None:
    """A session with fresh keys; no server knows it."""
    store.import_device(session_id, device(jid, os.urandom(32)), [])
