"""Pages become entries: what is exact is kept, what is elsewhere falls away, the rest is refused."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.remotes.base import Kind
from mirror.remotes.listings import NotAListingError, Row, collect, parse
from mirror.remotes.listings.html import LARGEST, SLICE

URL = "https://example.org/data/set/"
MINUTE = 60_000_000_000
NOON = 1795435200_000_000_000
"""23 November 2026, 12:00."""

LONG = "a" * 60


def html(body: str, title: str = "Index of /data/set/") -> bytes:
    return f"<html><head><title>{title}</title></head><body>{body}</body></html>".encode()


def names(body: str) -> list[str]:
    return [entry.name for entry in parse(html(body), "text/html", URL)]


def test_nginx_keeps_sizes_and_minutes() -> None:
    """The link is the truth: nginx shortens the text to 50 characters."""
    page = html(
        f'<h1>Index of /data/set/</h1><hr><pre><a href="../">../</a>\r\n'
        f'<a href="sub/">sub/</a>              23-Nov-2026 12:00                   -\r\n'
        f'<a href="{LONG}">{LONG[:47]}..&gt;</a> 23-Nov-2026 12:00          1234567890123\r\n'
        f'<a href="big">big</a>                23-Nov-2026 12:00                1.2G\r\n'
        f'<a href="round">round</a>            23-Nov-2026 12:00                 12K\r\n'
        f"</pre><hr>"
    )
    entries = parse(page, "text/html", URL)
    assert [(e.name, e.kind, e.size, e.mtime_ns) for e in entries] == [
        ("sub", Kind.FOLDER, None, NOON),
        (LONG, Kind.FILE, 1234567890123, NOON),
        ("big", Kind.FILE, None, None),
        ("round", Kind.FILE, None, NOON),
    ]
    assert {e.mtime_resolution_ns for e in entries if e.mtime_ns} == {MINUTE}


def test_nginx_json() -> None:
    page = b"""[
    { "name":"sub", "type":"directory", "mtime":"Mon, 23 Nov 2026 12:00:00 GMT" },
    { "name":"50% \\"x\\"", "type":"file", "mtime":"Mon, 23 Nov 2026 12:00:00 GMT", "size":7 },
    { "name":"bad\xff", "type":"file", "mtime":"Mon, 23 Nov 2026 12:00:00 GMT", "size":7 },
    { "name":"pipe", "type":"other", "mtime":"Mon, 23 Nov 2026 12:00:00 GMT" },
    { "name":"vague", "type":"file", "mtime":"today", "size":-1 },
    { "name":"huge", "type":"file", "size":9223372036854775808 }
    ]"""
    entries = parse(page, "application/json", URL)
    assert [(e.name, e.kind, e.size, e.mtime_ns) for e in entries] == [
        ("sub", Kind.FOLDER, None, NOON),
        ('50% "x"', Kind.FILE, 7, NOON),
        ("vague", Kind.FILE, None, None),
        ("huge", Kind.FILE, None, None),
    ]


def test_caddy_json() -> None:
    """The url is the truth for names; of a link in the file system size and time are another's."""
    page = b"""[
    {"name":"sub/","size":4096,"url":"./sub/","mod_time":"2026-11-23T12:00:00Z","is_dir":true,"is_symlink":false},
    {"name":"a b","size":7,"url":"./a%20b","mod_time":"2026-11-23T13:00:00.000000001+01:00","is_dir":false,
     "is_symlink":false},
    {"name":"link","size":9,"url":"./link","mod_time":"2026-11-23T12:00:00Z","is_dir":false,"is_symlink":true},
    {"name":"bad\\ufffd","size":7,"url":"./bad%FF","mod_time":"","is_dir":false,"is_symlink":false}
    ]"""
    entries = parse(page, "application/json; charset=utf-8", URL)
    assert [(e.name, e.kind, e.size, e.mtime_ns) for e in entries] == [
        ("sub", Kind.FOLDER, None, NOON),
        ("a b", Kind.FILE, 7, NOON + 1),
        ("link", Kind.FILE, None, None),
    ]


CADDY_ROW = """<tr class="file"><td></td><td><a href="./{name}"><svg><use xlink:href="#{icon}"></use></svg>
<span class="name">{name}</span></a></td><td data-order="{size}">?</td>
<td class="hideable"><time datetime=" 2026-11-23T12:00:00Z">?</time></td><td></td></tr>"""


def test_caddy_html() -> None:
    """As a proxy in between may ask for it; no heading says that it is a listing, its rows do."""
    rows = [("sub/", "folder", -1), ("a", "file", 1000), ("link", "file-shortcut", 5)]
    body = "".join(CADDY_ROW.format(name=name, icon=icon, size=size) for name, icon, size in rows)
    entries = parse(html(f"<table>{body}</table>", title="/data/"), "text/html", URL)
    assert [(e.name, e.kind, e.size, e.mtime_ns) for e in entries] == [
        ("sub", Kind.FOLDER, None, NOON),
        ("a", Kind.FILE, 1000, NOON),
        ("link", Kind.FILE, None, None),
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_page_that_caddy_cut_is_refused(as_json: bool) -> None:
    """It lists 10,000 entries of a larger folder and does not say so."""

    def listing(count: int) -> list[str]:
        if as_json:
            items = ({"url": f"./{n}", "is_dir": False, "is_symlink": False} for n in range(count))
            body, kind = json.dumps(list(items)).encode(), "application/json"
        else:
            rows = (CADDY_ROW.format(name=n, icon="file", size=1) for n in range(count))
            body, kind = html(f"<table>{''.join(rows)}</table>", title="/"), "text/html"
        return [entry.name for entry in parse(body, kind, URL)]

    assert len(listing(9_999)) == 9_999
    assert len(listing(10_001)) == 10_001
    with pytest.raises(NotAListingError, match="file_limit"):
        listing(10_000)


@pytest.mark.parametrize(
    "href",
    [
        "../",
        "..",
        "/",
        "/data/",
        "/data/set/",
        "./",
        ".",
        "",
        "?C=N;O=D",
        "?C=N&amp;O=A",
        "name?x=y",
        "#top",
        "/other/name",
        "/data/set/sub/name",
        "sub/name",
        "sub//",
        "http://example.org/data/set/name",
        "https://example.org:444/data/set/name",
        "https://elsewhere.org/data/set/name",
        "//elsewhere.org/data/set/name",
        "https://[broken/data/set/name",
        "mailto:someone@example.org",
        "javascript:alert(1)",
        "file:///data/set/name",
        "../set/name",
    ],
)
def test_links_that_are_no_entries(href: str) -> None:
    assert names(f'<a href="{href}">name</a>') == []


@pytest.mark.parametrize(
    "href",
    [
        "name",
        "./name",
        " name ",
        "n%61me",
        "name#part",
        "/data/set/name",
        "/d%61ta/set/name",
        "https://example.org/data/set/name",
        "https://EXAMPLE.org:443/data/set/name",
        "//example.org/data/set/name",
    ],
)
def test_spellings_of_a_child(href: str) -> None:
    assert names(f'<a href="{href}">something else</a>') == ["name"]


def test_bad_names_are_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert names(
            '<a href="good">x</a><a href="%2e%2e">x</a><a href="a%2fb">x</a><a href="a%00b">x</a>'
            f'<a href="{"z" * 5000}">x</a><a href="%ff">x</a>'
        ) == ["good"]
    assert len(caplog.records) == 5
    assert all(len(record.getMessage()) < 300 for record in caplog.records)


def test_a_million_bad_names_are_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert collect([Row("%ff", folder=False)] * 1000, URL) == []
    assert [r.getMessage() for r in caplog.records][-1].endswith("left out 1000 names in all")
    assert len(caplog.records) == 6


def test_of_duplicates_the_first_wins() -> None:
    rows = [Row("a", folder=False, size=1), Row("%61", folder=False, size=2)]
    assert [(e.name, e.size) for e in collect(rows, URL)] == [("a", 1)]


def test_a_file_and_a_folder_of_one_name_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rows = [
            Row("a", folder=False),
            Row("b", folder=False),
            Row("%61", folder=True),
            Row("a", folder=False),
        ]
        assert [e.name for e in collect(rows, URL)] == ["b"]
    assert "a file and a folder" in caplog.text


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (html('<a href="help">Help</a>', title="Log in"), "text/html"),
        (html('<a href="a">a</a><a href="/other/">Parent</a>', title="x"), "text/html"),
        (html("", title="The index of happiness"), "text/html"),
        (b"", "text/html"),
        (b"null", "application/json"),
        (b"{}", "application/json"),
        (b'{"files": []}', "application/json"),
        (b'["a"]', "application/json"),
        (b'[{"name": "a"}]', "application/json"),
        (b'[{"name": "a", "type": "file"}, 5]', "application/json"),
        (b"[", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"<?xml version='1.0'?><rss></rss>", "text/xml"),
        (b"<?xml version='1.0'?><list><file mtime=''>a</file>trailing</list>", "text/xml"),
        (b"<?xml version='1.0'?><!DOCTYPE list [<!ENTITY a 'b'>]><list></list>", "text/xml"),
        (b"\x7fELF", ""),
        (b"plain", "text/plain"),
    ],
)
def test_what_is_no_listing(body: bytes, content_type: str) -> None:
    with pytest.raises(NotAListingError):
        parse(body, content_type, URL)


@pytest.mark.parametrize(
    "body",
    [
        html('<h1>Directory listing for /x/</h1><ul><li><a href="a">a</a></ul>', title="x"),
        html('<pre><A HREF="/data/">[To Parent Directory]</A><br><A HREF="/data/set/a">a</A></pre>', "host"),
        html('<a href="../">..</a> <a href="a">a</a>', title=""),
    ],
)
def test_listings_of_others(body: bytes) -> None:
    """A known heading, or a link to the parent that says so."""
    assert [e.name for e in parse(body, "", URL)] == ["a"]


def test_an_empty_folder_is_a_listing() -> None:
    assert parse(html('<h1>Index of /x/</h1><a href="../">../</a>'), "text/html", URL) == []
    assert parse(b"[\r\n]", "application/json", URL) == []
    assert parse(b'<?xml version="1.0"?>\n<list>\n</list>\n', "text/xml", URL) == []


@pytest.mark.parametrize("table", [False, True])
def test_a_large_page_loses_nothing_between_its_slices(table: bool) -> None:
    count = 4 * SLICE // 100
    if table:
        rows = (f"\n<tr><td><a href='n{i:06}'>{'x' * 60}</a></td></tr>" for i in range(count))
        page = html(f"<table>{''.join(rows)}</table>")
    else:
        rows = (f'<a href="n{i:06}">x</a>{" " * 50} 23-Nov-2026 12:00   {i}\r\n' for i in range(count))
        page = html(f"<pre>\n{''.join(rows)}</pre>")
    entries = parse(page, "text/html", URL)
    assert [e.name for e in entries] == [f"n{i:06}" for i in range(count)]
    assert table or [e.size for e in entries] == list(range(count))


@given(st.binary(), st.sampled_from(["text/html", "application/json", "text/xml", ""]))
@example(b"[" * 2000, "application/json")
@example(b'<?xml version="1.0"?><list>' + b"<file " * 2000, "text/xml")
def test_any_bytes_are_a_listing_or_not(body: bytes, content_type: str) -> None:
    try:
        parse(body, content_type, URL)
    except NotAListingError:
        return


PIECES = st.sampled_from(
    [
        *(
            '<a href="',
            '">',
            "</a>",
            "<title>Index of",
            "</title>",
            "<tr",
            "<td>",
            "<pre>",
            "<span class=name>",
        ),
        *("x", "..", "/", "//", "%2e", "%00", "?", "#", "http:", ":", "[", "é", "\n", "\x00", "\ufffd"),
        " 23-Nov-2026 12:00 5\n",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_page_is_a_listing_or_not(page: str) -> None:
    """Whatever the links are, entries have good names, once each."""
    try:
        entries = parse(page.encode(), "text/html", URL)
    except NotAListingError:
        return
    found = [entry.name for entry in entries]
    assert len(set(found)) == len(found)
    assert not {"", ".", ".."} & set(found)
    assert not any("/" in name or "\0" in name for name in found)


def test_a_size_of_5000_digits_is_no_size() -> None:
    """Python refuses to read such a number; the name beside it is as good as any."""
    digits = "9" * 5000
    nginx = f'<title>Index of /</title><pre><a href="a">a</a>  23-Nov-2026 14:02  {digits}\n</pre>'
    link = '<a href="./a"><span class="name">a</span></a>'
    caddy = f'<table><tr class="file"><td>{link}</td><td data-order="{digits}"></td></tr></table>'
    for page in (nginx, caddy):
        entries = parse(page.encode(), "text/html", "http://h/")
        assert [(entry.name, entry.size) for entry in entries] == [("a", None)]


def test_a_folder_has_a_hundred_thousand_entries_at_most() -> None:
    """More would take more memory than a listing may; half of them would be a folder that lost files."""
    rows = (Row(f"{n}", False) for n in range(100_001))
    with pytest.raises(NotAListingError, match="100,000"):
        collect(rows, "http://h/")


@pytest.mark.parametrize(
    "page", ["[", "[{}", "[,]", "[{},]", "[] x", "x", '"x"', "[1]]", '{"a":[]}', "[" * 100_000]
)
def test_json_that_is_no_list_of_entries(page: str) -> None:
    with pytest.raises(NotAListingError):
        parse(page.encode(), "application/json", "http://h/")


@pytest.mark.parametrize("piece", ["<b>", "<div>", "<p class=a>", "a ", "<table>"])
def test_a_page_that_cannot_be_cut_is_none(piece: str) -> None:
    """A tree takes fifty times the memory of a page that is made for that: no large one is made of it."""
    with pytest.raises(NotAListingError, match="without an entry"):
        parse(html(piece * (2 * LARGEST // len(piece))), "text/html", URL)


@pytest.mark.parametrize(
    "line", ["<a href=x>", "<li><a href=x>x</a>", "<tr><td><a href=x>x</a>", "<a href=/>x</a>"]
)
def test_a_page_of_links_that_say_nothing_is_bounded(line: str) -> None:
    """A link that names nothing, or the same once more, takes as much time as one that names an entry."""
    with pytest.raises(NotAListingError, match="200,000"):
        parse(html(line * 200_001), "text/html", URL)


@pytest.mark.parametrize(
    "line", ["<a href={}>{}</a>", "<li><a href={}>{}</a></li>", "<tr><td><a href={}>{}</a></td></tr>"]
)
def test_a_page_without_line_ends_is_cut_between_its_entries(line: str) -> None:
    """None is lost where a slice ends, whatever it is written in."""
    count = 4 * SLICE // len(line)
    page = html("".join(line.format(f"n{n}", n) for n in range(count)))
    assert [entry.name for entry in parse(page, "text/html", URL)] == [f"n{n}" for n in range(count)]
