"""Prints what comes in. Run it with: python -m runner run examples.echo:app"""

from runner import App, Message, Session

app = App()


@app.on_message
async def print_it(session: Session, message: Message) -> None:
    """One line for each message: who wrote what to which session."""
    print(f"{session.id}  {message.sender}  {message.kind}: {message.text or ''}")
