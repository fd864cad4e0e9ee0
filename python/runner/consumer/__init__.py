"""Takes messages out of the store and hands them on: to the user's handler, and to the webhooks' outbox."""
