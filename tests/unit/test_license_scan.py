"""The licence scan sees what manifests hide, and notices when it looks at nothing."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "license_scan", Path(__file__).resolve().parents[2] / "tools" / "license_scan.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
license_scan = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(license_scan)


def crates_in(root: Path, header: str) -> list[tuple[str, Path]]:
    """Forty crates of one file each; the last one begins with `header`."""
    crates = []
    for n in range(40):
        folder = root / f"crate-{n}" / "src"
        folder.mkdir(parents=True)
        (folder / "lib.rs").write_text(f"{header}\n" if n == 39 else "// MIT\n")
        crates.append((f"crate-{n}", folder.parent))
    return crates


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        ("// SPDX-License-Identifier: AGPL-3.0-only", 1),
        ("// SPDX-License-Identifier: LGPL-2.1-or-later", 1),
        ("/* under the GNU Affero General Public License */", 1),
        ("// SPDX-License-Identifier: MIT", 0),
    ],
)
def test_scan_finds_a_header_in_one_file_of_forty_crates(
    header: str, verdict: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crates = crates_in(tmp_path, header)
    monkeypatch.setattr(license_scan, "release_crates", lambda: crates)
    assert license_scan.main() == verdict


def test_scan_of_nothing_is_no_clean_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(license_scan, "release_crates", list)
    assert license_scan.main() == 1
