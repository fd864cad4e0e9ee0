"""The files that tuning owns: their text, and how they are written so that a crash leaves the old or the new.

Every file begins with `MARK`; one of the same name that does not is somebody else's and is left alone.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.errors import StartError
from runner.tune.facts import SYSCTLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARK: Final = "# Written by `python -m runner tune --apply`; `python -m runner tune --undo` removes it.\n"
SYSCTL_FILE: Final = Path("etc/sysctl.d/60-runner.conf")
LIMITS_FILE: Final = Path("etc/security/limits.d/60-runner.conf")
STATE_FILE: Final = Path("var/lib/wa-runner-tune/state.json")
"""Not in the data directory: the service's user can write there, and root obeys this file."""
_NUMBERS: Final = re.compile(r"\d+( \d+)*")


class TuneError(StartError):
    """A file of ours cannot be read, written or trusted; nothing was changed by the step that says so."""

    slug = "cannot_tune"


@dataclass(slots=True)
class State:
    """What was changed, for `--undo`: the value before the first change, and the last one set."""

    sysctls: dict[str, tuple[str, str]] = field(default_factory=dict)
    open_files: int | None = None
    files: list[str] = field(default_factory=list)
    """Below the root, in the order of writing."""

    @property
    def is_empty(self) -> bool:
        """Nothing to undo."""
        return not self.sysctls and not self.files


def sysctl_text(values: Mapping[str, str]) -> str:
    """/etc/sysctl.d/60-runner.conf."""
    return MARK + "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))


def limits_text(limit: int) -> str:
    """/etc/security/limits.d/60-runner.conf: the wildcard leaves root out (limits.conf(5))."""
    return MARK + "".join(f"{who} - nofile {limit}\n" for who in ("*", "root"))


def unit_text(limit: int) -> str:
    """A drop-in of the service."""
    return f"{MARK}[Service]\nLimitNOFILE={limit}\n"


def unit_file(unit: str) -> Path:
    """Where the drop-in of a service goes."""
    return Path(f"etc/systemd/system/{unit}.d/60-runner-tune.conf")


def texts(state: State, units: Sequence[str]) -> dict[Path, str]:
    """Every file that the state asks for."""
    found: dict[Path, str] = {}
    if state.sysctls:
        found[SYSCTL_FILE] = sysctl_text({name: value for name, (_, value) in state.sysctls.items()})
    if state.open_files is not None:
        found[LIMITS_FILE] = limits_text(state.open_files)
        found |= {unit_file(unit): unit_text(state.open_files) for unit in units}
    return found


def load(root: Path) -> State:
    """The state; empty when there is none. Errors: TuneError when it is not what we wrote."""
    path = root / STATE_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        sysctls = {str(name): (str(before), str(value)) for name, (before, value) in raw["sysctls"].items()}
        state = State(sysctls, raw["openFiles"], [str(file) for file in raw["files"]])
    except FileNotFoundError:
        return State()
    except PermissionError as error:
        raise TuneError(
            f"{path} is root's alone", "run it as root: sudo python -m runner tune --undo"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, str(error)) from error
    for name, values in state.sysctls.items():
        if name not in SYSCTLS or not all(map(_NUMBERS.fullmatch, values)):
            raise _broken(path, f"{name} is nothing that was ever tuned")
    if any(Path(file).is_absolute() or ".." in Path(file).parts for file in state.files):
        raise _broken(path, "it names a file outside of /etc")
    return state


def _broken(path: Path, why: str) -> TuneError:
    return TuneError(
        f"{path} cannot be used: {why}",
        f"compare {SYSCTL_FILE} and {LIMITS_FILE} with it by hand, then remove all three",
    )


def save(root: Path, state: State) -> None:
    """Write the state, or remove it when there is nothing left. Errors: TuneError."""
    path = root / STATE_FILE
    try:
        if state.is_empty:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not there, or not empty
                path.parent.rmdir()
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TuneError(f"{path} cannot be written: {error.strerror}") from error
    content = {"sysctls": state.sysctls, "openFiles": state.open_files, "files": state.files}
    write(path, json.dumps(content, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """Replace a file as a whole, on disk before this returns. Errors: TuneError, and the old file stays."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise TuneError(f"{path} cannot be written: {error.strerror}") from error


def is_free(path: Path) -> bool:
    """Nobody's, or ours."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").startswith(MARK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
