"""The reconnect policy: pure functions and small state machines over `now` and `rng`.

Nothing here waits, logs, opens a socket or reads a clock; importing it needs neither Trio nor the Rust
extension. `decide` answers for one session, `table` says it for each close reason, `dials` decides who may
dial next.
"""
