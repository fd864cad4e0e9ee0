"""Write the generated pages anew (`make docs`), or with `--check` say which are out of date."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pains

from runner import metric_docs
from runner.admin import api
from runner.alerts import docs as alert_docs
from runner.alerts import rules as alert_table
from runner.cli import settings_docs
from runner.config import Settings
from runner.reconnect import docs as states_docs
from runner.tune import docs as tuning_docs
from runner.version import package_version
from runner.webhooks import docs as webhook_docs

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
WEBHOOKS = ROOT / "docs" / "webhooks.md"


def readme() -> str:
    """The README with its settings table replaced."""
    before, rest = README.read_text().split(settings_docs.README_BEGIN)
    _, after = rest.split(settings_docs.README_END)
    return f"{before}{settings_docs.readme_table()}{after}"


def openapi() -> str:
    """What `GET /openapi.json` answers, in a stable order and one value a line."""
    return json.dumps(api.description(package_version()), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def operating() -> str:
    """The page for operators with its alerts replaced."""
    return alert_docs.inserted(OPERATING.read_text())


def webhooks() -> str:
    """The page about webhooks with its events replaced."""
    return webhook_docs.inserted(WEBHOOKS.read_text())


def alert_rules() -> str:
    """What Prometheus can see of the conditions that the runner alerts on itself."""
    found = alert_table.prometheus_rules(Settings())
    return metric_docs.rules(
        metric_docs.Alert(name, expr, float(wait.removesuffix("s")), severity, summary)
        for name, expr, wait, severity, summary in found
    )


PAGES: dict[Path, Callable[[], str]] = {
    pains.PAGE: pains.render,
    ROOT / "docs" / "openapi.json": openapi,
    ROOT / "docs" / "metrics.md": metric_docs.document,
    ROOT / "docs" / "grafana" / "runner.json": metric_docs.board,
    ROOT / "docs" / "prometheus" / "runner.rules.yml": alert_rules,
    ROOT / "docs" / "settings.md": settings_docs.document,
    ROOT / "docs" / "states.md": states_docs.document,
    ROOT / "docs" / "tuning.md": tuning_docs.document,
    OPERATING: operating,
    WEBHOOKS: webhooks,
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
