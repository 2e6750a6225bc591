"""The manual and the commands say the same."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from mirror.cli.main import cli

CHECKOUT = Path(__file__).parents[2]
MANUAL = (CHECKOUT / "docs" / "cli.md").read_text()


def section(command: str) -> str:
    match = re.search(rf"^## mirror {command}$(.*?)(?=^## |\Z)", MANUAL, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/cli.md has no section for {command}"
    return match[1]


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_manual_has_every_option_and_no_other(name: str) -> None:
    options = [option for option in cli.commands[name].params if isinstance(option, click.Option)]
    known = {word for option in options for word in option.opts}
    rows = re.findall(r"^\| (`-[^|]*(?:\\\|[^|]*)*)\|", section(name), re.MULTILINE)
    said = {word for row in rows for word in re.findall(r"(?<![\w-])--?[a-zA-Z0-9][a-z0-9-]*", row)}
    assert said == known


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_manual_has_every_default(name: str) -> None:
    for option in cli.commands[name].params:
        if isinstance(option, click.Option) and option.show_default:
            [row] = re.findall(rf"^\| [^|\n]*`?{option.opts[-1]}[ `].*$", section(name), re.MULTILINE)
            assert f"| `{option.default}` |" in row


@pytest.mark.parametrize(
    "page",
    sorted(
        str(path.relative_to(CHECKOUT)) for path in [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")]
    ),
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (CHECKOUT / page).read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((CHECKOUT / page).parent / target).exists(), target
