"""Keeps thousands of WhatsApp Web sessions connected and tells the truth about each of them."""

from runner.application import App
from runner.errors import SendError
from runner.message import Media, Message, Reaction, SendReceipt, Session

__all__ = ["App", "Media", "Message", "Reaction", "SendError", "SendReceipt", "Session"]
