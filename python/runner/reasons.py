"""What the end of a connection means, in a sentence for a person."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from runner import _core
from runner.reconnect.table import OWN

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def meanings() -> Mapping[str, str]:
    """By slug: the facts of the Rust side, and the ends that have a reason of the supervisor's."""
    facts = {it.slug: it.summary for it in _core.close_reasons()}
    return facts | {slug: rule.why for slug, rule in OWN.items()}


def in_words(reason: str) -> str:
    """The reason with what it means; one that nobody knows stands alone."""
    means = meanings().get(reason)
    return reason if means is None else f"{reason}: {means}"
