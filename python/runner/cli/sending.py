"""`send`: one text to a person or a group."""

from __future__ import annotations

import click

from runner.cli.options import as_json, connect, ends_well, session_id, show_json

PATIENCE_S = 120.0
"""For WhatsApp to say that it has the text: `WHATSAPP_SEND_TIMEOUT` and then some."""


@click.command()
@session_id
@click.argument("chat")
@click.argument("text")
@click.option("--reply-to", metavar="MESSAGE", help="The id of the message of theirs that it answers.")
@click.option("--reply-to-sender", metavar="PERSON", help="In a group: who wrote that message.")
@click.option("--id", "message_id", help="The message's id: sent again under it, it is seen once.")
@as_json
@ends_well
def send(
    session_id: str,
    chat: str,
    text: str,
    *,
    reply_to: str | None,
    reply_to_sender: str | None,
    message_id: str | None,
    as_json: bool,
) -> None:
    """Send TEXT to CHAT; ends when WhatsApp has it.

    CHAT is a phone number with its country code, or a JID of a person or a group.

    \b
    Examples:
      python -m runner send shop-1 +15559000000 'your order is on its way'
      python -m runner send shop-1 15559000000@c.us hello --id order-17
      python -m runner send shop-1 120363000000000001@g.us 'hello all'
    """
    with connect(PATIENCE_S) as runner:
        sent = runner.send_text(
            session_id,
            chat,
            text,
            message_id=message_id,
            reply_to=reply_to,
            reply_to_sender=reply_to_sender,
        )
    if as_json:
        show_json(sent)
    else:
        click.echo(f"{session_id}: sent, message {sent['id']}")
