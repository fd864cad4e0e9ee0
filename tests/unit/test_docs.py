"""The pages that the code points at exist, and so do their sections."""

import re
from pathlib import Path

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


def test_paths_that_the_pages_name_exist() -> None:
    """What stands in backticks and looks like a path of the checkout is one."""
    named = re.compile(r"`((?:rust|python|tests|bench|docs|tools)/[\w./@-]*\w/?)`")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [(page, path) for page in pages for path in named.findall(page.read_text())]
    assert len(found) > 50
    assert not [f"{page.name}: {path}" for page, path in found if not (ROOT / path).exists()]
