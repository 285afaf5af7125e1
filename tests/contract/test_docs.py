"""The pages of docs/ are all reachable, and no link to a file is dead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def links(page: Path) -> list[str]:
    """Files that a page links, as it writes them: no addresses, no places within the page itself."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def test_the_index_links_every_page() -> None:
    linked = {(DOCS / link).resolve() for link in links(DOCS / "index.md")}
    assert len(PAGES) > 1 and set(PAGES) - {DOCS / "index.md"} <= linked


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_no_link_is_dead(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []
