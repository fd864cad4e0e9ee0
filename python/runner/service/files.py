"""The files, filled in for this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Final

KINDS: Final = {
    "systemd": "runner.service",
    "pm2": "ecosystem.config.cjs",
    "docker": "Dockerfile",
    "compose": "compose.yaml",
}
"""What can be printed -> the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and as whom the runner will run."""

    python: str = sys.executable
    data_dir: str = "/var/lib/wa-runner"
    user: str = "wa-runner"
    is_user_unit: bool = False
    """For `systemctl --user`: no other user, and only the hardening that needs no privilege."""


def written(kind: str, place: Place) -> str:
    """One file as it is used. `kind` is one of `KINDS`."""
    text = files("runner.service").joinpath(KINDS[kind]).read_text(encoding="utf-8")
    if kind != "systemd":
        return _filled(text, place)
    wanted = "user" if place.is_user_unit else "system"
    return _filled("".join(_only(text, wanted)), place)


def _filled(text: str, place: Place) -> str:
    return Template(text).safe_substitute(
        python=_escaped(place.python), data_dir=_escaped(place.data_dir), user=place.user
    )


def _escaped(path: str) -> str:
    """A path that means itself inside a unit and a script: no quotes, line ends, variables or specifiers."""
    if any(char in path for char in "\"'\\\n%$") or not os.path.isabs(path):
        raise ValueError(f"{path!r} cannot be written into a unit file")
    return path


def _only(text: str, wanted: str) -> list[str]:
    """The lines of all, and of the parts between `#[system]` or `#[user]` and `#[]` those that are wanted."""
    kept: list[str] = []
    part = ""
    for line in text.splitlines(keepends=True):
        if line.startswith("#["):
            part = line.strip()[2:-1]
        elif part in {"", wanted}:
            kept.append(line)
    return kept
