"""What an alert can be: one named condition that is healthy or not, and what an operator is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The classes of the owner's brief."""

    PERFORMANCE = "performance"
    CONNECTIVITY = "connectivity"
    SYSTEM = "system"
    APPLICATION = "application"


class Severity(StrEnum):
    """`critical`: sessions are offline or messages are at risk. `warning`: it will come to that."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnable:
    """One row of the table. Durations are multiplied by `WHATSAPP_ALERT_PATIENCE`."""

    slug: str
    kind: Kind
    severity: Severity
    meaning: str
    first_look: str
    action: str
    setting: str | None = None
    """Field of `Settings` that holds the threshold."""
    threshold: float | None = None
    """The threshold where there is no setting. With neither, the condition is simply there or not."""
    unit: str = ""
    clear_ratio: float = 1.0
    """The value must fall to this share of the threshold to count as well again."""
    for_s: float = 0.0
    """How long the condition must last before it is told."""
    clear_s: float = 0.0
    """How long it must be gone before it counts as over."""
    depends_on: tuple[str, ...] = ()
    """Conditions that explain this one: while one of them lasts, this one is not told."""
    aftermath_s: float = 90.0
    """How long after such an explanation ended this one is still explained by it."""
    prometheus: str | None = None
    """The same condition for Prometheus, `{threshold}` standing for the number; None: only we can see it."""
    is_incident: bool = False
    """Raised and ended by the supervisor or by health as an incident of the same name."""

    @property
    def variable(self) -> str | None:
        """The environment variable of the threshold."""
        return None if self.setting is None else f"WHATSAPP_{self.setting.removesuffix('_s').upper()}"
