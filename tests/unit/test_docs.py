"""The pages that the code points at exist, and so do their sections."""

import re
from pathlib import Path

from runner.config import rows
from runner.errors import (
    ImportRefusedError,
    RateLimitedError,
    RefusedError,
    SendError,
    StoreFailedError,
    UnknownSessionError,
    WebhookWrongError,
)

ROOT = Path(__file__).resolve().parents[2]
CITATION = re.compile(r'(docs/[\w./-]+\.md)(?:, "([^"]+)")?')
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")
SOURCES = [*(ROOT / "rust").rglob("*.rs"), *(ROOT / "python").rglob("*.py*")]


def citations() -> set[tuple[str, str | None]]:
    """Every (page, section) that a source file names."""
    texts = [
        path.read_text()
        for path in SOURCES
        if path.suffix in {".rs", ".py", ".pyi"} and "target" not in path.parts
    ]
    return {(page, section or None) for text in texts for page, section in CITATION.findall(text)}


def test_every_cited_page_and_section_exists() -> None:
    missing = []
    for page, section in sorted(citations(), key=str):
        path = ROOT / page
        if not path.is_file():
            missing.append(page)
        elif section and not re.search(rf"^#+ {re.escape(section)}$", path.read_text(), re.MULTILINE):
            missing.append(f'{page}, "{section}"')
    assert not missing
    assert len(citations()) > 10


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text()) if "://" not in link]
    broken = [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
    assert not broken


def test_sections_that_links_name_are_there() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = re.compile(r"\]\(([^)#\s:]*)#([\w-]+)\)")
    found = [
        (page, page.parent / (link or page.name), section)
        for page in pages
        for link, section in named.findall(page.read_text())
    ]
    assert len(found) > 3
    assert not [
        f"{page.name}: #{section}"
        for page, other, section in found
        if section not in sections(other.read_text())
    ]


def sections(text: str) -> set[str]:
    """The names of its headings as links spell them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", it.lower()).strip().replace(" ", "-") for it in headings}


def test_settings_that_the_pages_name_exist() -> None:
    known = {f"WHATSAPP_{name}{end}" for name in rows() for end in ("", "_FILE")} | {"WHATSAPP_CONFIG"}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = re.compile(r"\bWHATSAPP_[A-Z_]*[A-Z]\b(?!_?\*)")
    found = [(page, name) for page in pages for name in named.findall(page.read_text())]
    assert len(found) > 100
    assert not {f"{page.name}: {name}" for page, name in found if name not in known}


def test_every_slug_that_the_api_answers_with_is_on_its_page() -> None:
    sources = [it.read_text() for it in (ROOT / "python" / "runner").rglob("*.py")]
    made = {slug for text in sources for slug in re.findall(r'AdminError\(\s*\d{3},\s*"(\w+)"', text)}
    told = (
        RefusedError,
        RateLimitedError,
        SendError,
        ImportRefusedError,
        WebhookWrongError,
        StoreFailedError,
    )
    made |= {it.slug for it in (*told, UnknownSessionError)}
    assert len(made) > 15
    page = (ROOT / "docs" / "admin.md").read_text()
    assert not {slug for slug in made if f"`{slug}`" not in page}


def test_paths_that_the_pages_name_exist() -> None:
    """What stands in backticks and looks like a path of the checkout is one."""
    named = re.compile(r"`((?:rust|python|tests|bench|docs|tools)/[\w./@-]*\w/?)`")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [(page, path) for page in pages for path in named.findall(page.read_text())]
    assert len(found) > 50
    assert not [f"{page.name}: {path}" for page, path in found if not (ROOT / path).exists()]
