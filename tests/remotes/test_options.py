"""Options of a source: in its URL, in the environment, in tables of a file; every refusal."""

from __future__ import annotations

import pytest

from mirror.errors import MirrorError, SetupError, UsageError
from mirror.remotes import canonical
from mirror.remotes.options import (
    Form,
    Option,
    Options,
    in_environment,
    in_query,
    in_table,
    split,
    to_query,
)

KNOWN = (
    Option("region", "where"),
    Option("style", "how", choices=("path", "virtual")),
    Option("fast", "quickly", Form.FLAG),
    Option("part-size", "bytes", Form.NUMBER),
    Option("ca", "whom to trust", Form.FILE),
    Option("proxy", "through what", Form.URL, choices=("environment",)),
    Option("token", "who asks", secret=True),
)
URL = "kind://place/"


def one_line(error: MirrorError, *words: str) -> None:
    line = str(error)
    assert "\n" not in line
    assert "s3cret" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("region=eu", {"region": "eu"}),
        ("region=a%20b%26c", {"region": "a b&c"}),
        ("region=a+b", {"region": "a b"}),
        ("style=path&fast", {"style": "path", "fast": "true"}),
        ("fast=YES", {"fast": "true"}),
        ("fast=0", {"fast": "false"}),
        ("part-size=007", {"part-size": "7"}),
        ("ca=/a/b.pem", {"ca": "/a/b.pem"}),
        ("ca=~/b.pem", {"ca": "~/b.pem"}),
        ("proxy=environment", {"proxy": "environment"}),
        ("proxy=http://Proxy.Example:3128/", {"proxy": "http://proxy.example:3128"}),
        ("proxy=https%3A%2F%2F[::1]:1", {"proxy": "https://[::1]:1"}),
    ],
)
def test_a_query(query: str, values: dict[str, str]) -> None:
    """Each value has one spelling, whatever it was written as."""
    assert in_query(KNOWN, URL, query) == values
    assert in_query(KNOWN, URL, to_query(values).removeprefix("?")) == values


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("colour=s3cret", ["colour", "there are: region, style"]),
        ("region=s3cret&region=s3cret", ["region", "twice"]),
        ("token=s3cret", ["token", "mirror.toml"]),
        ("region=", ["region", "not empty"]),
        ("region", ["region", "not empty"]),
        ("region=s3cret%0A", ["region", "one line"]),
        ("region=%ff", ["NAME=VALUE"]),
        ("style=s3cret", ["style", "path or virtual"]),
        ("fast=s3cret", ["fast", "true or false"]),
        ("part-size=-1", ["part-size", "whole number"]),
        ("part-size=\u0661", ["part-size", "whole number"]),
        ("part-size=" + "9" * 16, ["part-size", "whole number"]),
        ("ca=s3cret.pem", ["ca", "whole path"]),
        ("proxy=s3cret", ["proxy", "http://HOST:PORT", "environment"]),
        ("proxy=socks5://s3cret", ["proxy", "http://HOST:PORT"]),
        ("proxy=http://me:s3cret@proxy:1", ["proxy", "options of their own"]),
        ("proxy=http://s3cret@proxy:1", ["proxy", "options of their own"]),
        ("proxy=http://proxy:s3cret", ["proxy", "http://HOST:PORT"]),
        ("proxy=http://proxy/?s3cret", ["proxy", "http://HOST:PORT"]),
        ("proxy=http:///", ["proxy", "http://HOST:PORT"]),
        ("&".join(f"region=s3cret{number}" for number in range(65)), ["NAME=VALUE"]),
    ],
)
def test_a_query_that_is_refused(query: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        in_query(KNOWN, URL, query)
    one_line(caught.value, URL, *words)


def test_a_kind_without_options() -> None:
    with pytest.raises(UsageError) as caught:
        in_query((), URL, "a=s3cret")
    one_line(caught.value, "has none", "leave out")


def test_the_environment() -> None:
    """``MIRROR_SCHEME_NAME`` in capitals; a secret may stand there, and only what is known is read."""
    environ = {
        "MIRROR_A_B_PART_SIZE": "07",
        "MIRROR_A_B_TOKEN": "s3cret",
        "MIRROR_A_B_COLOUR": "red",
        "MIRROR_OTHER_REGION": "x",
    }
    assert in_environment(KNOWN, "a+b", environ) == {"part-size": "7", "token": "s3cret"}
    with pytest.raises(UsageError) as caught:
        in_environment(KNOWN, "a+b", {"MIRROR_A_B_FAST": "s3cret"})
    one_line(caught.value, "MIRROR_A_B_FAST", "true or false")
    with pytest.raises(UsageError) as caught:
        in_environment(KNOWN, "a+b", {"MIRROR_A_B_TOKEN": "s3cret\n"})
    one_line(caught.value, "MIRROR_A_B_TOKEN", "one line")


def test_a_table() -> None:
    """Text, numbers and truth as TOML has them."""
    table: dict[str, object] = {"region": "eu", "fast": True, "part-size": 7, "token": "s3cret"}
    assert in_table(KNOWN, table, "here") == {
        "region": "eu",
        "fast": "true",
        "part-size": "7",
        "token": "s3cret",
    }
    refused: list[tuple[str, object]] = [
        ("colour", "s3cret"),
        ("region", ["s3cret"]),
        ("region", 1.5),
        ("part-size", -1),
        ("fast", "s3cret"),
        ("token", ""),
    ]
    for name, value in refused:
        with pytest.raises(SetupError) as caught:
            in_table(KNOWN, {name: value}, "here")
        one_line(caught.value, "here", name)


def test_values_are_shown_by_nothing() -> None:
    """An object of options may get into a traceback."""
    options = Options({"token": "s3cret", "fast": "true", "ca": "~/x"})
    assert repr(options) == "Options(token, fast, ca)"
    assert (options["token"], len(options), list(options)) == ("s3cret", 3, ["token", "fast", "ca"])
    assert options.flag("fast")
    assert not options.flag("region")
    assert options.file("region") is None
    assert (options.file("ca") or "").endswith("/x")
    assert not (options.file("ca") or "").startswith("~")


def test_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one spelling of a source has its options in order, and no secret can get into it."""
    assert split("a://b?c=d?e") == ("a://b", "c=d?e")
    assert canonical("HTTPS://H/x/?http2&ca=/a%20b") == "https://h/x/?ca=%2Fa%20b&http2=true"
    monkeypatch.setenv("MIRROR_HTTPS_TOKEN", "s3cret")
    assert canonical("https://h/x/") == "https://h/x/"
    for source in (
        "https://h/?password=s3cret",
        "https://h/?client-key-password=s3cret",
        "https://h/?proxy-password=s3cret",
        "https://h/?proxy=http://me:s3cret@p",
        "webdavs://h/?token=s3cret",
        "hf://a/b?token=s3cret",
        "hf://a/b?endpoint=https://me:s3cret@h",
        "https://h/?",
    ):
        with pytest.raises(UsageError) as caught:
            canonical(source)
        one_line(caught.value)
