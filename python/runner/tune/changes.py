"""Changes, one at a time: noted for undo, made, read back, and taken back when they did not take.

The order is what makes it safe. First the state with the values from before; then the kernel's values, each
read back; then the files for the next boot, with what took and nothing else. Whatever fails, what it began is
taken back, and the state says what is left to undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.tune import kept
from runner.tune.facts import sysctl_path
from runner.tune.finding import Sysctl
from runner.tune.kept import State, TuneError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from runner.tune.finding import Change


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one value or file."""

    what: str
    done: bool
    text: str
    """In a sentence: before and after, or why not."""

    def to_json(self) -> dict[str, object]:
        """As `tune --json` shows it."""
        return {"what": self.what, "done": self.done, "text": self.text}


def apply(root: Path, changes: Iterable[Change], units: Sequence[str] = ()) -> list[Outcome]:
    """Make the changes. Blocking.

    Errors: TuneError when the state or a file of somebody else is in the way; nothing was changed then.
    """
    wanted = list(changes)
    state = kept.load(root)
    _refuse_foreign(root, wanted, units)
    before = {change.name: _read(root, change.name) for change in wanted if isinstance(change, Sysctl)}
    _note(state, wanted, before)
    kept.save(root, state)
    outcomes = []
    for change in wanted:
        if isinstance(change, Sysctl):
            outcomes.append(_set(root, change.name, change.value, before[change.name]))
            if not outcomes[-1].done:
                _forget(state, change.name, before[change.name])
    try:
        outcomes += _write_files(root, state, units)
    except TuneError as error:
        outcomes.append(Outcome("files", done=False, text=f"{error}; everything of this run is taken back"))
        outcomes += _take_back(root, state, before)
    kept.save(root, state)
    return outcomes


def undo(root: Path) -> list[Outcome]:
    """Take everything back that was ever applied. Blocking.

    A value that somebody else has changed since is left alone. Errors: TuneError when the state is damaged.
    """
    state = kept.load(root)
    outcomes = [_unset(root, name, *values) for name, values in state.sysctls.items()]
    left = {outcome.what for outcome in outcomes if not outcome.done}
    for file in state.files:
        path = root / file
        if not kept.is_free(path):
            outcomes.append(Outcome(file, done=True, text="left alone: it is not ours any more"))
            continue
        try:
            path.unlink(missing_ok=True)
            outcomes.append(Outcome(file, done=True, text="removed"))
        except OSError as error:
            left.add(file)
            outcomes.append(Outcome(file, done=False, text=f"cannot be removed: {error.strerror}"))
    remaining = State({name: values for name, values in state.sysctls.items() if name in left})
    remaining.files = [file for file in state.files if file in left]
    kept.save(root, remaining)
    return outcomes


def _refuse_foreign(root: Path, wanted: list[Change], units: Sequence[str]) -> None:
    probe = State({"any": ("", "")} if any(isinstance(change, Sysctl) for change in wanted) else {})
    probe.open_files = next((change.limit for change in wanted if not isinstance(change, Sysctl)), None)
    for file in kept.texts(probe, units):
        if not kept.is_free(root / file):
            raise TuneError(
                f"{root / file} is not ours",
                "move it away, or put the values there by hand; nothing was changed",
            )


def _note(state: State, wanted: list[Change], before: dict[str, str]) -> None:
    for change in wanted:
        if isinstance(change, Sysctl):
            first, _ = state.sysctls.get(change.name, (before[change.name], ""))
            state.sysctls[change.name] = (first, change.value)
        else:
            state.open_files = change.limit


def _forget(state: State, name: str, before: str) -> None:
    """The change did not take: what is noted is what holds again."""
    first, _ = state.sysctls.pop(name)
    if first != before:  # an earlier run changed it, and that still holds
        state.sysctls[name] = (first, before)


def _set(root: Path, name: str, value: str, before: str) -> Outcome:
    try:
        _put(root, name, value)
    except OSError as error:
        return Outcome(name, done=False, text=f"stays {before}: {error.strerror}")
    if (now := _read(root, name)) == value:
        return Outcome(name, done=True, text=f"{before} → {value}, read back")
    try:
        _put(root, name, before)
    except OSError as error:
        return Outcome(
            name, done=False, text=f"reads {now} and not {value}; {before} refused: {error.strerror}"
        )
    return Outcome(name, done=False, text=f"stays {before}: the kernel made {now} of {value}")


def _unset(root: Path, name: str, before: str, value: str) -> Outcome:
    now = _read(root, name)
    if now == before:
        return Outcome(name, done=True, text=f"is {before} already")
    if now != value:
        return Outcome(name, done=True, text=f"left at {now}: somebody else has changed it since")
    return _set(root, name, before, value)


def _take_back(root: Path, state: State, before: dict[str, str]) -> Iterable[Outcome]:
    for name, value in before.items():
        if name in state.sysctls:
            yield _set(root, name, value, _read(root, name))
            _forget(state, name, value)


def _write_files(root: Path, state: State, units: Sequence[str]) -> list[Outcome]:
    """Errors: TuneError; every file is as it was then."""
    outcomes: list[Outcome] = []
    old: dict[Path, str | None] = {}
    try:
        for file, text in kept.texts(state, units).items():
            path = root / file
            old[path] = path.read_text(encoding="utf-8") if path.exists() else None
            kept.write(path, text)
            if path.read_text(encoding="utf-8") != text:
                raise TuneError(f"{path} does not read back as it was written")
            outcomes.append(Outcome(str(file), done=True, text=_holds_from(file)))
    except TuneError:
        for path, before in old.items():
            if before is None:
                path.unlink(missing_ok=True)
            else:
                kept.write(path, before)
        if not (root / kept.LIMITS_FILE).exists():
            state.open_files = None
        raise
    known = dict.fromkeys((*state.files, *(outcome.what for outcome in outcomes)))
    state.files = list(known)
    return outcomes


def _holds_from(file: Path) -> str:
    if file == kept.SYSCTL_FILE:
        return "written: the same values at the next boot"
    if file == kept.LIMITS_FILE:
        return "written: holds from the next login on"
    return "written: systemctl daemon-reload, then restart the service"


def _read(root: Path, name: str) -> str:
    try:
        return " ".join(sysctl_path(root, name).read_text(encoding="ascii").split())
    except OSError as error:
        raise TuneError(f"{name} cannot be read: {error.strerror}") from error


def _put(root: Path, name: str, value: str) -> None:
    sysctl_path(root, name).write_text(f"{value}\n", encoding="ascii")
