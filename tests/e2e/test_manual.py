"""`docs/semantics.md` promises nothing that no test proves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "semantics.md"


def test_every_promise_has_a_test_of_its_name() -> None:
    """Each heading of the third level is the name of a test, in lower case with underscores."""
    headings = re.findall(r"^### (.+)$", MANUAL.read_text(), re.MULTILINE)
    assert len(headings) > 20, "the manual is not where it was"
    proven = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        tree = ast.parse(path.read_text())
        proven |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    unproven = [heading for heading in headings if _test_name(heading) not in proven]
    assert unproven == []


def _test_name(heading: str) -> str:
    """``The tree is the origin's tree`` → ``test_the_tree_is_the_origins_tree``."""
    words = heading.lower().replace("'", "")
    return "test_" + re.sub(r"[^a-z0-9]+", "_", words).strip("_")
