"""`service install` and `uninstall`: the systemd unit, put in its place and taken away again."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.errors import StartError
from runner.service.files import written

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.service.files import Place

NAME: Final = "wa-runner.service"
_RUNNING: Final = Path("/run/systemd/system")
"""There while systemd is the first process; sd_booted(3)."""


def unit_path(*, is_user_unit: bool, root: Path = Path("/")) -> Path:
    """Where the unit goes."""
    if is_user_unit:
        base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(base) / "systemd" / "user" / NAME
    return root / "etc" / "systemd" / "system" / NAME


def install(
    place: Place, *, root: Path = Path("/"), systemctl: Callable[[list[str]], None] | None = None
) -> Path:
    """Write the unit and enable it; it is not started. The path of the unit.

    Errors: StartError with what stands in the way; nothing is changed then.
    """
    _check(is_user_unit=place.is_user_unit, root=root)
    if not place.is_user_unit:
        _check_user(place)
    path = unit_path(is_user_unit=place.is_user_unit, root=root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written("systemd", place), encoding="utf-8")
    call = systemctl or _systemctl
    flag = ["--user"] if place.is_user_unit else []
    call([*flag, "daemon-reload"])
    call([*flag, "enable", NAME])
    return path


def uninstall(
    *, is_user_unit: bool, root: Path = Path("/"), systemctl: Callable[[list[str]], None] | None = None
) -> Path:
    """Stop and disable the service and remove its unit; the data directory stays. The path of the unit.

    Errors: StartError when there is no unit of ours, or systemd is not there.
    """
    _check(is_user_unit=is_user_unit, root=root)
    path = unit_path(is_user_unit=is_user_unit, root=root)
    if not path.exists():
        raise StartError(f"there is no {path}", "nothing was installed, or with --user")
    call = systemctl or _systemctl
    flag = ["--user"] if is_user_unit else []
    call([*flag, "disable", "--now", NAME])
    path.unlink()
    call([*flag, "daemon-reload"])
    return path


def _check(*, is_user_unit: bool, root: Path) -> None:
    if not (root / _RUNNING.relative_to("/")).is_dir():
        raise StartError(
            "systemd does not run this machine",
            "use `service print pm2`, `docker` or `compose`, or start the runner by what runs it",
        )
    if not is_user_unit and os.geteuid() != 0 and root == Path("/"):
        raise StartError("a system service needs root", "use sudo, or --user")


def _check_user(place: Place) -> None:
    try:
        pwd.getpwnam(place.user)
    except KeyError:
        raise StartError(
            f"there is no user {place.user}",
            f"make one: useradd --system --home-dir {place.data_dir} --shell /usr/sbin/nologin {place.user}",
        ) from None


def _systemctl(args: list[str]) -> None:
    try:
        done = subprocess.run(["systemctl", *args], capture_output=True, text=True, check=False)
    except OSError as error:
        raise StartError(f"systemctl cannot be executed: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise StartError(f"systemctl {' '.join(args)} failed: {said[-1] if said else done.returncode}")
