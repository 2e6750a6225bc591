"""The pages on sources and the kinds of sources say the same."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "sources"


@pytest.mark.parametrize(("page", "module"), [("http", "http"), ("hub", "hub"), ("s3", "s3")])
def test_the_manual_has_every_option(page: str, module: str) -> None:
    """In the table of its section, marked where it is a secret."""
    options = import_module(f"mirror.remotes.{module}").OPTIONS
    section = (PAGES / f"{page}.md").read_text().partition("\n## Options\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    said = {name for cell in cells for name in re.findall(r"`([a-z0-9-]+)", cell)}
    assert said >= {option.name for option in options}
    for option in options:
        if option.secret and page == "http":
            assert any(f"`{option.name}` (secret)" in cell for cell in cells)


def test_a_page_that_has_the_options_of_another() -> None:
    """WebDAV has those of web servers."""
    webdav, http = import_module("mirror.remotes.webdav"), import_module("mirror.remotes.http")
    assert webdav.OPTIONS == http.OPTIONS
    assert "http.md#options" in (PAGES / "webdav.md").read_text()
