"""What a browser is sent, and that no file of it asks for what the policy forbids."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from runner.alerts.rules import RULES
from runner.dashboard.files import FOLDER, POLICY, Files
from runner.session import State
from runner.tune import facts
from runner.tune.facts import Facts
from runner.tune.finding import Need
from runner.tune.report import CHECKS
from support.machines import CONNTRACK, bare_host, container

FILES = Files()
OURS = [path for path in FOLDER.rglob("*") if path.is_file() and "vendor" not in path.parts]
KEY = re.compile(r'^  "([^"]+)": "(.*)",$', re.MULTILINE)


def keys(language: str) -> dict[str, str]:
    return dict(KEY.findall((FOLDER / "lang" / f"{language}.js").read_text(encoding="utf-8")))


def test_the_languages_have_equal_keys_and_equal_places_for_values() -> None:
    english, portuguese = keys("en"), keys("pt")
    assert len(english) > 150
    assert english.keys() == portuguese.keys()
    places = re.compile(r"\{\w+\}")
    for key, text in english.items():
        assert sorted(places.findall(text)) == sorted(places.findall(portuguese[key])), key


def test_every_alert_has_its_meaning_and_its_remedy_in_portuguese() -> None:
    entry = re.compile(r'^  (\w+): \[\n    "(.+)",\n    "(.+)",\n  \],$', re.MULTILINE)
    found = entry.findall((FOLDER / "lang" / "pt_alerts.js").read_text(encoding="utf-8"))
    assert {slug for slug, _, _ in found} == RULES.keys()
    assert len(found) == len(RULES)


def test_every_finding_of_tune_says_in_portuguese_why_it_matters() -> None:
    entry = re.compile(r'^  "([\w-]+)": "(.+)",$', re.MULTILINE)
    found = entry.findall((FOLDER / "lang" / "pt_tune.js").read_text(encoding="utf-8"))
    assert [name for name, _ in found] == [check.name for check in CHECKS]


def portuguese_effect(effect: str) -> str | None:
    """As `effectOf` in js/i18n.js: the first sentence that fits, with its figures."""
    source = (FOLDER / "lang" / "pt_tune.js").read_text(encoding="utf-8").split("export const effects = [")[1]
    for line in source.splitlines():
        if not line.startswith("  ["):
            continue
        said, text = json.loads(line.strip().rstrip(","))
        if (figures := re.fullmatch(said, effect)) is not None:
            return re.sub(r"\$(\d)", lambda place: str(figures[int(place[1])]), text)
    return None


def test_every_effect_that_tune_finds_is_there_in_portuguese_with_all_its_figures(tmp_path: Path) -> None:
    hosts = {
        "plain": bare_host(tmp_path / "plain"),
        "tracked": bare_host(tmp_path / "tracked", CONNTRACK),
        "strict": bare_host(tmp_path / "strict", {"vm/overcommit_memory": "2", "net/core/somaxconn": "16"}),
        "wide": bare_host(tmp_path / "wide", {"net/ipv4/ip_local_port_range": "1024 65535"}),
        "boxed": container(tmp_path / "boxed", files="4096"),
    }
    machines = [Facts(pid=1), *(facts.read(root, is_synchronized=lambda: True) for root in hosts.values())]
    effects = {
        check.judge(machine, Need(sessions)).effect
        for machine in machines
        for check in CHECKS
        for sessions in (1, 1_000, 30_000, 1_000_000)
    }
    assert len(effects) > 40
    figure = re.compile(r"\d[\d,.]*\d|\d")
    for effect in effects:
        told = portuguese_effect(effect)
        assert told is not None, f"no sentence of lang/pt_tune.js fits {effect!r}"
        assert sorted(figure.findall(told)) == sorted(figure.findall(effect)), told


def test_every_state_has_its_word_its_meaning_and_its_colour() -> None:
    english, style = keys("en"), (FOLDER / "base.css").read_text()
    for state in State:
        assert {f"state.{state}", f"state.{state}.meaning"} <= english.keys()
        assert f"--state-{state}:" in style
        assert f'[data-state="{state}"]' in style


def test_every_text_that_is_asked_for_is_there_and_none_is_idle() -> None:
    known = keys("en").keys()
    source = "\n".join(
        path.read_text() for path in OURS if path.suffix == ".js" and path.parent.name != "lang"
    )
    asked = set(re.findall(r'\bt\("([^"]+)"', source))
    assert asked <= known
    made = re.findall(r"`([a-z.]+)\$\{", source)  # `state.${…}` and the like
    quoted = set(re.findall(r'"([a-zA-Z0-9_.]+)"', source))
    idle = {key for key in known - quoted if not any(key.startswith(prefix) for prefix in made)}
    assert not idle


def test_no_file_of_ours_reaches_outside_or_writes_markup() -> None:
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        assert "innerHTML" not in text, path
        assert not re.search(r"""(?:src|href|url\(|from)\s*=?\s*["'(]?https?:""", text), path
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=", text)


def test_the_page_is_asked_for_anew_and_its_files_are_kept() -> None:
    page = FILES.answer("/", {})
    assert page is not None
    assert (page.status, page.headers["cache-control"]) == (200, "no-cache")
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    names = re.findall(rb'(?:src|href)="(/static/[^"]+)"', page.body)
    assert len(names) >= 5
    for name in names:
        sent = FILES.answer(name.decode(), {})
        assert sent is not None, name
        assert "immutable" in sent.headers["cache-control"]


def test_an_address_of_another_build_is_not_kept() -> None:
    sent = FILES.answer("/static/0123456789abcdef/js/main.js", {})
    assert sent is not None
    assert sent.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("js/main.js", "text/javascript"),
        ("base.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("vendor/uPlot.LICENSE", "text/plain"),
    ],
)
def test_files_have_their_types(name: str, media_type: str) -> None:
    sent = FILES.answer(f"/static/{FILES.digest}/{name}", {})
    assert sent is not None
    assert sent.headers["content-type"].startswith(media_type)
    assert sent.headers["x-content-type-options"] == "nosniff"


def test_a_browser_that_has_it_is_told_so() -> None:
    path = f"/static/{FILES.digest}/js/main.js"
    first = FILES.answer(path, {})
    assert first is not None
    again = FILES.answer(path, {"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert again is not None
    assert (again.status, again.body) == (304, b"")


def test_text_is_packed_for_who_can_unpack_it() -> None:
    path = f"/static/{FILES.digest}/vendor/uPlot.esm.js"
    plain, packed = FILES.answer(path, {}), FILES.answer(path, {"accept-encoding": "gzip, br"})
    assert plain is not None
    assert packed is not None
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) * 2 < len(plain.body)


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/x",
        "/static/x/../../../front.py",
        "/static/x/%2e%2e/front.py",
        "/static//etc/passwd",
    ],
)
def test_nothing_else_is_a_file(path: str) -> None:
    assert FILES.answer(path, {}) is None


def test_the_licence_of_what_is_not_ours_lies_beside_it() -> None:
    vendored = Path(FOLDER / "vendor")
    assert {path.name for path in vendored.iterdir()} == {"uPlot.esm.js", "uPlot.min.css", "uPlot.LICENSE"}
    assert "MIT" in (vendored / "uPlot.LICENSE").read_text()
