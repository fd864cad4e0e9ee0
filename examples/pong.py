"""A bot that answers, and its test in test_pong.py. Run it with: python -m runner run examples.pong:app"""

from runner import App, Message, Session

app = App()


@app.on_message
async def answer(session: Session, message: Message) -> None:
    """`ping` is answered, in a group too; everything else is not."""
    if message.text == "ping":
        await message.reply("pong")
