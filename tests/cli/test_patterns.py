"""Patterns against tables, and against a plain recursive reading of their definition."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.patterns import Patterns
from mirror.errors import UsageError
from mirror.selection import read_patterns

MATCHES = [
    ("*.tar", "a.tar", True),
    ("*.tar", "train/a.tar", False),
    ("**/*.tar", "a.tar", True),
    ("**/*.tar", "train/deep/a.tar", True),
    ("train", "train/deep/a.tar", True),
    ("train/", "train/a.tar", True),
    ("train/**", "train/a.tar", True),
    ("train/**/b", "train/b", True),
    ("train/**/b", "train/x/y/b/below", True),
    ("train", "training/a", False),
    ("train", "train", True),
    ("./train/./a", "train/a", True),
    ("/train/a", "train/a", True),
    (".", "anything/at/all", True),
    ("**", "anything/at/all", True),
    ("*", "folder/file", True),
    ("*", ".hidden", True),
    ("a?c", "abc", True),
    ("a?c", "a/c", False),
    ("[ab]*", "bc", True),
    ("[!ab]*", "bc", False),
    ("100%", "100%", True),
    ("[*]", "*", True),
    ("[*]", "x", False),
    ("A", "a", False),
    ("two\nlines*", "two\nlines and more", True),
    ("**/é*", "x/été", True),
    ("a/**/b/**/c", "a/1/b/2/3/c", True),
    ("a/**/b/**/c", "a/1/2/c", False),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES)
def test_a_pattern_matches_the_path_relative_to_the_source(pattern: str, path: str, expected: bool) -> None:
    assert Patterns([pattern]).matches(path) is expected


def test_no_patterns_mean_everything() -> None:
    assert Patterns([]).matches("a/b")
    assert Patterns([]).may_match_below("a")


def test_a_list_matches_what_any_of_its_patterns_matches() -> None:
    patterns = Patterns(["*.txt", "images"])
    assert patterns.matches("a.txt")
    assert patterns.matches("images/1.jpg")
    assert not patterns.matches("labels/1.json")


@pytest.mark.parametrize(
    ("pattern", "folder", "expected"),
    [
        ("*.tar", "train", False),
        ("train/*.tar", "train", True),
        ("train/*.tar", "train/deep", False),
        ("train/*.tar", "val", False),
        ("**/*.tar", "any/where", True),
        ("train", "train", True),
        ("train", "train/deep", True),
        ("a/**/z", "a/b/c", True),
        ("a/**/z", "b", False),
        ("x", "", True),
    ],
)
def test_a_folder_that_nothing_can_match_below_is_not_listed(
    pattern: str, folder: str, expected: bool
) -> None:
    assert Patterns([pattern]).may_match_below(folder) is expected


@pytest.mark.parametrize("pattern", ["../x", "a/../b", "", "//"])
def test_a_pattern_that_can_match_nothing_is_wrong_usage(pattern: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        read_patterns([pattern])


def test_many_double_stars_take_no_exponential_time() -> None:
    """A pattern costs at most its length times the path's; this one would take years of backtracking."""
    assert not Patterns(["/".join(["**", "a"] * 30)]).matches("/".join(["a"] * 29 + ["b"] * 30))


def _meant(names: list[str], path: list[str]) -> bool:
    """The definition, read plainly: also a folder above the path counts."""
    if not names:
        return True
    if names[0] == "**":
        return _meant(names[1:], path) or (bool(path) and _meant(names, path[1:]))
    return bool(path) and fnmatch.fnmatchcase(path[0], names[0]) and _meant(names[1:], path[1:])


_NAMES = st.lists(st.sampled_from(["a", "b", "ab", "abc"]), min_size=1, max_size=5)
_GLOBS = st.lists(st.sampled_from(["a", "b", "*", "a*", "?", "**"]), min_size=1, max_size=5)


@given(globs=_GLOBS, path=_NAMES)
def test_matching_agrees_with_the_plain_definition(globs: list[str], path: list[str]) -> None:
    assert Patterns(["/".join(globs)]).matches("/".join(path)) is _meant(globs, path)


@given(globs=_GLOBS, path=_NAMES)
def test_every_folder_above_a_match_may_match_below(globs: list[str], path: list[str]) -> None:
    patterns = Patterns(["/".join(globs)])
    if patterns.matches("/".join(path)):
        assert all(patterns.may_match_below("/".join(path[:depth])) for depth in range(len(path)))
