"""One HTTP delivery of one event: where it may go, how it is signed, when it is tried again, and the attempt.

Alerts and webhooks have their own queues and share this. The web client is imported when the first attempt is
made, not from here.
"""
