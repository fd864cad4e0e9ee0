"""The extension that is imported was built from the sources that are checked out."""

import hashlib
from pathlib import Path

from runner import _core

ROOT = Path(__file__).parents[2]
CRATES = ("binding", "client", "engine", "proto", "sim", "store", "xeddsa")


def source_digest(root: Path) -> str:
    """The twin of `digest` in `rust/binding/build.rs`."""
    paths: list[Path] = []
    for crate in CRATES:
        folder = root / "rust" / crate
        paths += [path for path in (folder / "src").rglob("*") if path.is_file()]
        paths += [path for path in (folder / "Cargo.toml", folder / "build.rs") if path.is_file()]
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in paths):
        content = path.read_bytes()
        digest.update(b"%s\0%d\0" % (name.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def test_the_extension_is_not_stale() -> None:
    assert _core.BUILD_INFO["source_digest"] == source_digest(ROOT), "build it again: make build"


def test_build_info_says_what_was_compiled() -> None:
    assert set(_core.BUILD_INFO) == {"version", "profile", "rustc", "target", "source_digest"}
    assert _core.BUILD_INFO["rustc"].startswith("rustc 1.")
