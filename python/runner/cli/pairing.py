"""`pair`: links a session with a phone, by a QR code in the terminal or by a code to type in."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.options import as_json, connect, ends_well, session_id, show_json
from runner.errors import AdminError, RefusedError
from runner.phone_number import checked_phone

if TYPE_CHECKING:
    from runner.admin.client import Client, Session

LOOK_EVERY_S: Final = 0.5
PATIENCE_S: Final = 60.0
"""For one answer of the runner: it waits for the server's first QR code."""
LINKED_WITHIN_S: Final = 60.0
"""From the scan to the first login of the new device."""
_AGAIN: Final = "is somebody there with the phone? python -m runner pair ID begins anew"


class PhoneNumber(click.ParamType[str]):
    """Looked at before a session is made for it."""

    name = "phone number"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            checked_phone(value)
        except RefusedError as error:
            self.fail(f"{error}; {error.remedy}", param, ctx)
        return value


@click.command()
@session_id
@click.option(
    "--phone",
    type=PhoneNumber(),
    metavar="N",
    help="Show a code to type into the phone with this number instead.",
)
@click.option("--proxy", metavar="URL", help="The proxy of a session that is made now; see set-proxy.")
@as_json
@ends_well
def pair(session_id: str, *, phone: str | None, proxy: str | None, as_json: bool) -> None:
    """Link a phone: shows QR codes until one is scanned, for about three minutes.

    A session of that name is made if there is none; one that was logged out is linked anew. On the phone:
    Settings, Linked devices, Link a device. Ends when the session is online.

    \b
    Examples:
      python -m runner pair shop-1
      python -m runner pair shop-1 --phone '+55 11 91234-5678'
    """
    show: _Json | _Terminal = _Json() if as_json else _Terminal(session_id)
    with connect(PATIENCE_S) as runner:
        _begin(runner, session_id, proxy)
        if phone is not None:
            show.code(runner.pairing_code(session_id, phone))
        row = _until_linked(runner, session_id, show, with_qr=phone is None)
    show.done(row)


def _begin(runner: Client, session_id: str, proxy: str | None) -> None:
    try:
        runner.command(session_id, "pair")
    except AdminError as error:
        if error.status != 404:
            raise
        runner.create_empty(session_id, proxy=proxy)


def _until_linked(runner: Client, session_id: str, show: _Json | _Terminal, *, with_qr: bool) -> Session:
    shown_until_ms, linked_at = 0, None
    while True:
        row = runner.session(session_id)
        if row["linked"]:
            linked_at = linked_at or time.monotonic()
            if row["state"] == "online" or time.monotonic() - linked_at > LINKED_WITHIN_S:
                return row
        elif row["state"] in {"parked", "stopped"}:
            why = row["reason"] or row["state"]
            raise RefusedError(why, f"session {session_id!r} was not linked: {why}", _AGAIN)
        elif with_qr and row["state"] == "pairing" and time.time() * 1000 >= shown_until_ms:
            try:
                code = runner.qr(session_id)
            except AdminError as error:
                if error.status != 409:
                    raise
            else:
                show.qr(code)
                shown_until_ms = code["expiresAt"]
        time.sleep(LOOK_EVERY_S)


class _Json:
    """A JSON document for each thing that is shown."""

    def qr(self, code: dict[str, Any]) -> None:
        show_json({"qr": code["value"], "expiresAt": code["expiresAt"], "left": code["left"]})
        sys.stdout.flush()

    def code(self, code: dict[str, Any]) -> None:
        show_json(code)
        sys.stdout.flush()

    def done(self, row: Session) -> None:
        show_json(row)


class _Terminal:
    """For a person at a terminal; in a pipe a QR code is its text."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id

    def qr(self, code: dict[str, Any]) -> None:
        lasts_s = max(0, round(code["expiresAt"] / 1000 - time.time()))
        if sys.stdout.isatty():
            import segno

            click.echo()
            segno.make_qr(code["value"], error="l").terminal(compact=True)
        else:
            click.echo(code["value"])
        click.echo(
            f"{self._session_id}: scan it on the phone (Settings, Linked devices, Link a device); good for "
            f"{lasts_s} s, {code['left']} more follow"
        )

    def code(self, code: dict[str, Any]) -> None:
        lasts_s = max(0, round(code["expiresAt"] / 1000 - time.time()))
        click.echo(
            f"{self._session_id}: {code['code']}  type it into the phone (Settings, Linked devices, Link a "
            f"device, Link with phone number); good for {lasts_s} s"
        )

    def done(self, row: Session) -> None:
        click.echo(f"{row['id']}: linked, {row['state']}")
