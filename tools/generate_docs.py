"""Write the generated pages anew (`make docs`), or with `--check` say which are out of date."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pains

from runner import metric_docs
from runner.admin import api
from runner.cli import settings_docs
from runner.reconnect import docs as states_docs
from runner.tune import docs as tuning_docs
from runner.version import package_version

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def readme() -> str:
    """The README with its settings table replaced."""
    before, rest = README.read_text().split(settings_docs.README_BEGIN)
    _, after = rest.split(settings_docs.README_END)
    return f"{before}{settings_docs.readme_table()}{after}"


def openapi() -> str:
    """What `GET /openapi.json` answers, in a stable order and one value a line."""
    return json.dumps(api.description(package_version()), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    pains.PAGE: pains.render,
    ROOT / "docs" / "openapi.json": openapi,
    ROOT / "docs" / "metrics.md": metric_docs.document,
    ROOT / "docs" / "grafana" / "runner.json": metric_docs.board,
    # The alert engine's own table belongs in here: `metric_docs.rules(alerts)`.
    ROOT / "docs" / "prometheus" / "runner.rules.yml": metric_docs.rules,
    ROOT / "docs" / "settings.md": settings_docs.document,
    ROOT / "docs" / "states.md": states_docs.document,
    ROOT / "docs" / "tuning.md": tuning_docs.document,
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
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return stale


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
