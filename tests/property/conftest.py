"""Fixtures of the property tests."""

from support.quiet import quiet_logs

__all__ = ["quiet_logs"]
