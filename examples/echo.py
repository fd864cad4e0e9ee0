"""Says what it hears: answers each text with itself. Run it with: python -m runner run examples.echo:app"""

from runner import App, Message, Session

app = App()


@app.on_message
async def echo(session: Session, message: Message) -> None:
    """One line for each message, and an answer to what a person wrote."""
    print(f"{session.id}  {message.sender}  {message.kind}: {message.text or ''}")
    if message.kind == "text" and message.text and not message.is_group and not message.is_own:
        await message.reply(message.text)
