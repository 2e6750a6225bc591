"""What a source on the Hub is called, and what it is cached under."""

from __future__ import annotations

import pytest

from mirror.errors import SetupError, UsageError
from mirror.remotes import canonical, key
from mirror.remotes.hub.url import parse


@pytest.fixture(autouse=True)
def _public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("MIRROR_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://datasets/o/n", "hf://datasets/o/n"),
        ("HF://datasets/o/n/", "hf://datasets/o/n"),
        ("hf://datasets/o/n@main", "hf://datasets/o/n"),
        ("hf://o/n", "hf://models/o/n"),
        ("hf://models/O/n.v-1_2@v1.0/a/b/", "hf://models/O/n.v-1_2@v1.0/a/b"),
        ("hf://spaces/o/n/a%20b/100%/%41", "hf://spaces/o/n/a%20b/100%25/A"),
        ("hf://datasets/o/n@refs%2Fpr%2F1/a", "hf://datasets/o/n@refs%2Fpr%2F1/a"),
        ("hf://datasets/o/n@refs/pr/1/a", "hf://datasets/o/n@refs%2Fpr%2F1/a"),
        ("hf://datasets/o/n@refs/convert/parquet", "hf://datasets/o/n@refs%2Fconvert%2Fparquet"),
        ("hf://datasets/o/n@a%2bb", "hf://datasets/o/n@a%2Bb"),
        ("hf://datasets/o/n@" + "a1" * 20, "hf://datasets/o/n@" + "a1" * 20),
    ],
)
def test_one_spelling(source: str, expected: str) -> None:
    assert canonical(source) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("hf://", "owner"),
        ("hf:datasets/o/n", "hf://datasets"),
        ("hf:///o/n", "name"),
        ("hf://datasets", "owner"),
        ("hf://datasets/squad", "owner"),
        ("hf://datasets//n", "name"),
        ("hf://datasets/o/", "owner"),
        ("hf://datasets/o/..", "name"),
        ("hf://datasets/o/n m", "%20"),
        ("hf://datasets/o%2Fp/n", "name"),
        ("hf://datasets/o/n@", "'@'"),
        ("hf://datasets/o/n@a..b", "'@'"),
        ("hf://datasets/o/n@a%00b", "'@'"),
        ("hf://datasets/o/n@%ff", "'@'"),
        ("hf://datasets/o/n@/x", "'@'"),
        ("hf://user:s3cret@host/o/n", "owner"),
        ("hf://datasets/o/n/a/../b", "path"),
        ("hf://datasets/o/n/a%2Fb", "path"),
        ("hf://datasets/o/n#x", "%23"),
        ("hf://datasets/o/n?revision=x", "revision"),
    ],
)
def test_refused_in_one_line(source: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        canonical(source)
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts() -> None:
    place = parse("hf://datasets/o/n@refs/pr/7/a/b")
    assert (place.kind, place.repo, place.revision, place.path) == ("datasets", "o/n", "refs/pr/7", "a/b")
    assert place.commit is None
    assert place.page == "datasets/o/n"
    assert parse("hf://o/n").page == "o/n"
    assert parse("hf://o/n@" + "0" * 40).commit == "0" * 40


def test_two_hubs_are_two_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the address is set; how it is reached makes no difference."""
    assert key("hf://o/n?http2&times") == "hf://models/o/n"
    assert key("hf://o/n?endpoint=https://huggingface.co/") == "hf://models/o/n"
    other = "hf://models/o/n?endpoint=https%3A%2F%2Fhub.example.org"
    assert key("hf://o/n?endpoint=https://Hub.example.org/&times") == other
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.org/")
    assert key("hf://o/n") == other
    assert key("hf://o/n?endpoint=https://huggingface.co") == "hf://models/o/n"
    monkeypatch.setenv("HF_ENDPOINT", "hub.example.org")
    with pytest.raises(SetupError, match="HF_ENDPOINT"):
        key("hf://o/n")
