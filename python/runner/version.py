"""Which build this is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from runner.engine import build_info


def build() -> dict[str, object]:
    """Version and what was compiled; the Rust part as it was compiled."""
    return {"version": package_version(), "python": platform.python_version(), "core": build_info()}


def package_version() -> str:
    """The version of the installed package, or of the Rust part in a tree that is not installed."""
    try:
        return installed_version("wa-runner")
    except PackageNotFoundError:
        return build_info()["version"]
