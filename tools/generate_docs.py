"""Write the generated pages anew (`make docs`), or with `--check` say which are out of date."""

import sys
from collections.abc import Callable
from pathlib import Path

import pains

from runner.alerts import docs as alert_docs
from runner.cli import settings_docs
from runner.reconnect import docs as states_docs

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"


def readme() -> str:
    """The README with its settings table replaced."""
    before, rest = README.read_text().split(settings_docs.README_BEGIN)
    _, after = rest.split(settings_docs.README_END)
    return f"{before}{settings_docs.readme_table()}{after}"


def operating() -> str:
    """The page for operators with its alerts replaced."""
    return alert_docs.inserted(OPERATING.read_text())


PAGES: dict[Path, Callable[[], str]] = {
    pains.PAGE: pains.render,
    ROOT / "docs" / "settings.md": settings_docs.document,
    ROOT / "docs" / "states.md": states_docs.document,
    OPERATING: operating,
    README: readme,
}


def main(check: bool) -> int:
    """Write or compare; the number of pages that are out of date when comparing."""
    stale = 0
    for path, render in PAGES.items():
        text = render()
        if path.exists() and path.read_text() == text:
            continue
        if check:
            print(f"out of date: {path.relative_to(ROOT)} (run: make docs)", file=sys.stderr)
            stale += 1
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return stale


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
