"""Names are decoded once, refused for stated reasons, and quoted so that they come back the same."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.remotes.names import BadNameError, check, decode, shown, to_url
from tests.remotes.tree import NAMES


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        ("a%20b", "a b"),
        ("%2541", "%41"),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        ("a+b", "a+b"),
        ("caf%C3%A9", "café"),
        ("caf%c3%a9", "café"),
        ("line%0Abreak", "line\nbreak"),
        ("%01", "\x01"),
        ("...", "..."),
        ("%EF%BF%BD", "\ufffd"),
    ],
)
def test_decoded_exactly_once(segment: str, name: str) -> None:
    assert decode(segment) == name


@pytest.mark.parametrize(
    "segment",
    ["", ".", "..", "%2e", "%2E%2e", "a%2Fb", "a%00b", "%FF", "%C3", "%ED%B3%A9", "é" * 128, "x" * 256],
)
def test_refused(segment: str) -> None:
    with pytest.raises(BadNameError):
        decode(segment)


@pytest.mark.parametrize("name", ["\ud800", "a\udce9", "a/b", "a\0"])
def test_refused_undecoded(name: str) -> None:
    with pytest.raises(BadNameError):
        check(name)


@pytest.mark.parametrize("name", NAMES)
def test_quoted_names_come_back(name: str) -> None:
    assert decode(to_url(name)) == name


@given(st.text(min_size=1).filter(lambda name: "/" not in name and "\0" not in name))
def test_quoting_is_complete(name: str) -> None:
    """No character of a URL's own syntax is left, and the name comes back."""
    try:
        check(name)
    except BadNameError:
        return
    quoted = to_url(name)
    assert not set(quoted) & set("?#;&+ <>\"'\\:@\n")
    assert quoted.isascii()
    assert decode(quoted) == name == unquote(quoted)


@given(st.text())
def test_decode_names_or_refuses(segment: str) -> None:
    try:
        name = decode(segment)
    except BadNameError:
        return
    assert check(name) == name


def test_a_log_line_stays_a_line() -> None:
    assert shown("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert len(shown("x" * 10_000)) == 120
