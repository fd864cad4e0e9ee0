"""Which build this is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def build() -> dict[str, object]:
    """Version and what was compiled; the Rust part as `BUILD_INFO` has it."""
    from runner._core import BUILD_INFO

    return {"version": package_version(), "python": platform.python_version(), "core": dict(BUILD_INFO)}


def package_version() -> str:
    """The version of the installed package, or of the Rust part in a tree that is not installed."""
    try:
        return installed_version("wa-runner")
    except PackageNotFoundError:
        from runner._core import BUILD_INFO

        return BUILD_INFO["version"]
