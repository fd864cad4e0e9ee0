"""Write the generated pages anew (`make docs`), or with `--check` say which are out of date."""

import sys
from collections.abc import Callable
from pathlib import Path

import pains

ROOT = Path(__file__).resolve().parent.parent


def pages() -> dict[Path, Callable[[], str]]:
    """Each generated page and the function that renders it."""
    return {pains.PAGE: pains.render}


def main(check: bool) -> int:
    """Write or compare; the number of pages that are out of date when comparing."""
    stale = 0
    for path, render in pages().items():
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
