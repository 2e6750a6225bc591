"""One tree has one spelling; what cannot be a source is refused in one line."""

from __future__ import annotations

import pytest

from mirror.errors import UsageError
from mirror.remotes import canonical, open_remote


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.org", "https://example.org/"),
        ("HTTPS://Example.ORG:443/A/b/", "https://example.org/A/b/"),
        ("http://example.org:80/x", "http://example.org/x"),
        ("http://example.org:8080//x//", "http://example.org:8080/x/"),
        ("http://example.org/a//b/", None),
        ("http://example.org///", "http://example.org/"),
        ("http://example.org/a%7Eb/%c3%a9/", "http://example.org/a~b/%C3%A9/"),
        ("http://example.org/é/", "http://example.org/%C3%A9/"),
        ("http://example.org/a%20b+c/", "http://example.org/a%20b%2Bc/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:8000/d/", "http://[::1]:8000/d/"),
        ("http://127.0.0.1:1234/", "http://127.0.0.1:1234/"),
    ],
)
def test_one_spelling(source: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            canonical(source)
        return
    assert canonical(source) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "https://HOST/PATH/"),
        ("data", "https://HOST/PATH/"),
        ("example.org/data", "https://example.org/data or http://example.org/data"),
        ("example.org:80/data", "https://example.org:80/data"),
        ("localhost:8000", "http://localhost:8000"),
        ("user:secret@example.org/data", "https://HOST/PATH/"),
        ("/data/my sets", "file:///data/my%20sets"),
        ("ftp://example.org/", "ftp"),
        ("gopher://bucket/", "gopher"),
        ("https:///x/", "no host"),
        ("https://", "no host"),
        ("https://user:secret@example.org/", "netrc"),
        ("https://user@example.org/", "netrc"),
        ("https://example.org/?colour=secret", "query"),
        ("https://example.org/x#y", "%23"),
        ("https://example.org:99999/", "URL"),
        ("https://example.org:x/", "URL"),
        ("https://example.org:0/", "port"),
        ("https://exa mple.org/", "%20"),
        ("https://example.org/a\nb/", "%20"),
        ("https://example.org/a/../b/", "path"),
        ("https://example.org/a%2Fb/", "path"),
        ("https://[::1/", "URL"),
        ("https://" + "a" * 70 + ".\udcff/", "host"),
    ],
)
def test_refused_in_one_line(source: str, says: str) -> None:
    for ask in (canonical, open_remote):
        with pytest.raises(UsageError) as caught:
            ask(source)
        line = str(caught.value)
        assert says in line
        assert "\n" not in line
        assert "secret" not in line
