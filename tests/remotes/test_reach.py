"""A redirect never leads further inside than where it came from."""

from __future__ import annotations

import pytest

from mirror.errors import OriginFailed
from mirror.http import reach
from mirror.http.reach import Reach, reach_of
from tests.remotes.conftest import Opener
from tests.remotes.contract import read
from tests.support.hostile import good, hostile, redirect

BODY = bytes(range(256))


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("93.184.216.34", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("no address", Reach.PUBLIC),
        ("10.1.2.3", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("169.254.169.254", Reach.LINK_LOCAL),
        ("fe80::1%eth0", Reach.LINK_LOCAL),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.9.9.9", Reach.LOOPBACK),
        ("0.0.0.0", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::ffff:169.254.169.254", Reach.LINK_LOCAL),
        ("64:ff9b::a9fe:a9fe", Reach.LINK_LOCAL),
        ("2002:7f00:1::", Reach.LOOPBACK),
    ],
)
def test_how_far_inside_an_address_is(address: str, inside: Reach) -> None:
    """Also where one of the old kind is written as one of the new."""
    assert reach_of(address) is inside


@pytest.fixture
def _map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loopback addresses stand for others: 127.0.1.x public, 127.0.2.x private, 127.0.3.x link-local."""
    kinds = {"1": Reach.PUBLIC, "2": Reach.PRIVATE, "3": Reach.LINK_LOCAL}
    monkeypatch.setattr(reach, "reach_of", lambda address: kinds.get(address.split(".")[2], Reach.LOOPBACK))


@pytest.mark.usefixtures("_map")
@pytest.mark.parametrize("source", [0, 1, 2, 3])
@pytest.mark.parametrize("target", [0, 1, 2, 3])
@pytest.mark.parametrize("allowed", [False, True])
async def test_redirects_lead_outwards_only(opened: Opener, source: int, target: int, allowed: bool) -> None:
    """The address that counts is the one that a connection has; nothing is sent to one that is refused."""
    order = [1, 2, 3, 0]  # from the outermost
    with (
        hostile({"/f": good(BODY)}, host=f"127.0.{target}.1") as inner,
        hostile({"/f": redirect(f"{inner.url}f")}, host=f"127.0.{source}.2") as outer,
    ):
        remote = opened(outer.url, private_redirects=allowed)
        if allowed or order.index(target) <= order.index(source):
            async with remote.open_part("f") as part:
                assert await read(part) == BODY
        else:
            with pytest.raises(OriginFailed, match="private-redirects"):
                async with remote.open_part("f"):
                    pass
            assert inner.seen == []


@pytest.mark.usefixtures("_map")
async def test_a_way_out_does_not_lead_in_again(opened: Opener) -> None:
    """This machine may send elsewhere, and elsewhere may not send back."""
    with hostile({"/g": good(BODY)}) as inner:
        with hostile({"/f": redirect(f"{inner.url}g")}, host="127.0.1.1") as outer:
            routes = {"/f": redirect(f"{outer.url}f"), "/g": good(BODY)}
            with hostile(routes) as source:
                remote = opened(source.url)
                async with remote.open_part("g") as part:
                    assert await read(part) == BODY
                with pytest.raises(OriginFailed, match="loopback"):
                    async with remote.open_part("f"):
                        pass
        assert inner.seen == []


@pytest.mark.usefixtures("_map")
async def test_a_kept_connection_to_the_inside_is_not_used_either(opened: Opener) -> None:
    with hostile({}, host="127.0.1.1") as outer:
        routes = {"/f": redirect(f"{outer.url}f"), "/g": good(BODY)}
        with hostile(routes) as source:
            outer.routes["/f"] = redirect(f"{source.url}g")
            remote = opened(source.url)
            async with remote.open_part("g") as part:
                assert await read(part) == BODY
            with pytest.raises(OriginFailed, match="loopback"):
                async with remote.open_part("f"):
                    pass
            assert [seen.path for seen in source.seen] == ["/g", "/f"]
