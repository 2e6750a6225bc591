"""Nobody on the Internet can have us ask what only we can reach."""

from __future__ import annotations

import pytest

from mirror.errors import OriginFailed
from mirror.http import connection
from mirror.http.addresses import is_public
from tests.remotes.conftest import Opener
from tests.support.hostile import Behaviour, good, hostile, redirect


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("no address", False),
        ("", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 counts as an address of the Internet: this machine has no other to listen on."""
    monkeypatch.setattr(connection, "is_public", lambda address: address == "127.0.0.2")


@pytest.mark.usefixtures("internet")
async def test_no_redirect_from_outside_to_inside(opened: Opener) -> None:
    """Not by a name either, nor by way of a second redirect; nothing reaches the private server."""
    ways: dict[str, Behaviour] = {}
    with hostile({"/secret": good(b"x")}) as inside, hostile(ways, host="127.0.0.2") as outside:
        name = inside.url.replace("127.0.0.1", "localhost")
        ways |= {
            "/a": redirect(f"{inside.url}secret"),
            "/b": redirect(f"{name}secret"),
            "/c": redirect("/a"),
        }
        remote = opened(outside.url)
        for path in "abc":
            with pytest.raises(OriginFailed, match="private-redirects"):
                await remote.stat(path)
        assert not inside.seen
        assert inside.connections <= 3  # made and closed, without a byte


@pytest.mark.usefixtures("internet")
async def test_a_connection_that_is_kept_is_judged_as_well(opened: Opener) -> None:
    """The private server was asked for itself before; that does not open the way to it."""
    near: dict[str, Behaviour] = {"/ok": good(b"x")}
    far: dict[str, Behaviour] = {"/b": good(b"y")}
    with hostile(near) as inside, hostile(far, host="127.0.0.2") as outside:
        far["/a"] = redirect(f"{inside.url}ok")
        near |= {"/there": redirect(f"{outside.url}b"), "/back": redirect(f"{outside.url}a")}
        remote = opened(inside.url)
        await remote.stat("ok")
        await remote.stat("there")  # from inside to outside is everybody's right
        with pytest.raises(OriginFailed, match="private-redirects"):
            await remote.stat("back")


@pytest.mark.usefixtures("internet")
async def test_it_can_be_allowed(opened: Opener) -> None:
    with (
        hostile({"/f": good(b"x")}) as inside,
        hostile({"/f": redirect(f"{inside.url}f")}, host="127.0.0.2") as outside,
    ):
        assert (await opened(outside.url, private=True).stat("f")).size == 1


async def test_inside_everything_may_redirect_everywhere(opened: Opener) -> None:
    with hostile({"/f": good(b"x")}) as other, hostile({"/f": redirect(f"{other.url}f")}) as server:
        assert (await opened(server.url).stat("f")).size == 1
