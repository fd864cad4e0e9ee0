"""Sending over HTTP: one text, answered when WhatsApp has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fastapi import Request  # noqa: TC002  FastAPI reads the annotation

from runner.admin import answers
from runner.admin.backend import NewText
from runner.admin.bodies import decoded
from runner.admin.lists import Json
from runner.admin.schemas import NEW_TEXT, NOT_FOUND, a_body, says
from runner.errors import AdminError
from runner.sending import MESSAGE_ID, chat_jid, derived_message_id

if TYPE_CHECKING:
    from fastapi import FastAPI

    from runner.admin.backend import Backend

_LONGEST_KEY: Final = 255
_KEY: Final = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "with the same key nothing is sent twice; the message's id is made of it",
            "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY},
        }
    ]
}


def add_sending(app: FastAPI, backend: Backend) -> None:
    """The route that sends."""

    @app.post(
        "/api/sendText",
        responses={
            **answers.SENT,
            **NOT_FOUND,
            409: says(
                "by `reason`: not online, nobody has that number, not in that group, or the id or key "
                "was used for another"
            ),
            422: says("a body of another form, or a chat that is no person and no group"),
            429: says("too many messages of this session are on their way; or too many wrong tokens"),
            502: says("WhatsApp refuses it; the message has its number"),
            503: says("the store could not keep what it changes"),
            504: says("WhatsApp did not confirm it in time; by `reason`: unconfirmed may have arrived"),
        },
        summary="send a text to a person or a group; answers when WhatsApp has it",
        openapi_extra={**a_body(NEW_TEXT), **_KEY},
    )
    async def send_text(request: Request) -> Json:
        wish = decoded(await request.body(), NewText, "POST /api/sendText")
        chat, quoted = chat_jid(wish.chat_id), None
        if wish.reply_to is not None:
            quoted = await backend.quoted(wish.session, chat, _author_of(wish, chat), wish.reply_to)
        receipt = await backend.send_text(
            wish.session,
            chat,
            wish.text,
            message_id=_id_of(wish, request.headers.get("idempotency-key")),
            quoted=quoted,
            is_strict=True,
        )
        return Json({"id": receipt.id, "chatId": receipt.chat, "timestamp": receipt.server_unix_ms})


def _author_of(wish: NewText, chat: str) -> str:
    """Who wrote the message that is answered: in a chat with one person it is he."""
    if not chat.endswith("@g.us"):
        return chat
    author = None if wish.reply_to_sender is None else chat_jid(wish.reply_to_sender)
    if author is None or author.endswith("@g.us"):
        raise AdminError(
            422,
            "parameter_wrong",
            "reply_to: in a group it must be said who wrote the message",
            "give reply_to_sender: the sender of that message",
        )
    return author


def _id_of(wish: NewText, key: str | None) -> str | None:
    if key is not None and not 1 <= len(key) <= _LONGEST_KEY:
        raise AdminError(
            422, "parameter_wrong", f"Idempotency-Key: {len(key)} characters, and it has 1 to {_LONGEST_KEY}"
        )
    if wish.id is not None:
        if not re.fullmatch(MESSAGE_ID, wish.id):
            raise AdminError(422, "parameter_wrong", f"id: {wish.id!r} is not {MESSAGE_ID}")
        return wish.id
    return None if key is None else derived_message_id("key", wish.session, key)
