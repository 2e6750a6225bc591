"""The contract, against the real servers, each listing format of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mirror.remotes import How, open_remote
from mirror.remotes.base import Listing, Remote
from tests.remotes.contract import RemoteContract
from tests.remotes.tree import NAMES
from tests.support.servers import Server, apache, caddy, lighttpd, nginx, python_http


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[Server]:
    """The class's server, started once for all of its tests."""
    with request.cls.start(root) as server:
        yield server


class HttpContract(RemoteContract):
    """The suite over one way to start a server."""

    start: ClassVar[Any]
    """``(root) -> AbstractContextManager[Server]``, one of `tests.support.servers`."""

    @pytest.fixture
    async def remote(self, server: Server) -> AsyncIterator[Remote]:
        remote = open_remote(server.url, How(deadline=20.0))
        yield remote
        await remote.aclose()


class TestNginxHtml(HttpContract):
    start = partial(nginx, autoindex="html")
    lists_hidden = False


class TestNginxJson(HttpContract):
    start = partial(nginx, autoindex="json")
    lists_hidden = False


class TestNginxXml(HttpContract):
    start = partial(nginx, autoindex="xml")
    lists_hidden = False


class TestNginxRounded(HttpContract):
    start = partial(nginx, extra_conf="autoindex_exact_size off;")
    lists_hidden = False
    lists_sizes = False

    async def test_a_listing_is_the_folder(self, remote: Remote, root: Path) -> None:
        """Rounded sizes are no sizes: what is stated is right, the rest is left open."""
        listing = await remote.list("folder")
        assert isinstance(listing, Listing)
        assert {entry.name: entry.size for entry in listing.entries} == {"deep.bin": None, "none.bin": 0}


class TestApacheTable(HttpContract):
    start = staticmethod(apache)
    lists_sizes = False


class TestApachePre(HttpContract):
    start = partial(apache, index_options="FancyIndexing IconsAreLinks")
    lists_sizes = False


class TestApachePlain(HttpContract):
    start = partial(apache, index_options="None")
    lists_sizes = False


class TestLighttpd(HttpContract):
    start = staticmethod(lighttpd)
    lists_sizes = False
    # It answers 400 to control characters in a URL.
    unserved = frozenset(name for name in NAMES if min(name) < " ")


class TestCaddy(HttpContract):
    start = staticmethod(caddy)


class TestPython(HttpContract):
    start = staticmethod(python_http)
    unwaited = False
    lists_sizes = False
    ranges = False
    # It has no ETags: the times of files that are not new are their validators.
    foreign = "modified:Mon, 23 Nov 2020 14:02:14 GMT"
