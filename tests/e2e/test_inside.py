"""`docs/hostile.md`, "Never further inside": through a mount whose source is at a public address."""

from __future__ import annotations

import pytest

from tests.support import readers
from tests.support.hostile import good, hostile, redirect
from tests.support.misbehaviours import entry, listing
from tests.support.mounts import mounted
from tests.support.network import network

PUBLIC = "93.184.216.34"
INSIDE = ("127.0.0.1", "10.1.2.3", "169.254.169.254")
SECRET = b"what only this machine may see"


@pytest.mark.parametrize("allowed", [False, True])
def test_a_public_source_leads_nowhere_inside(allowed: bool) -> None:
    """Loopback, private and link-local addresses get no request, unless the source's option allows it."""
    with network([PUBLIC, *INSIDE[1:]]) as net:
        names = [f"f{n}" for n in range(len(INSIDE))]
        page = listing(*(entry(name, len(SECRET)) for name in names))
        with (
            hostile({"/s": good(SECRET)}, host=INSIDE[0], listener=net.listen(INSIDE[0])) as first,
            hostile({"/s": good(SECRET)}, host=INSIDE[1], listener=net.listen(INSIDE[1])) as second,
            hostile({"/s": good(SECRET)}, host=INSIDE[2], listener=net.listen(INSIDE[2])) as third,
        ):
            inner = [first, second, third]
            routes = {f"/{name}": redirect(f"{host.url}s") for name, host in zip(names, inner, strict=True)}
            with hostile({"/": page, **routes}, host=PUBLIC, listener=net.listen(PUBLIC)) as outer:
                source = outer.url + ("?private-redirects=true" if allowed else "")
                with mounted(source, prefix=net.prefix, args=["--deadline", "5"]) as mount:
                    got = [readers.run("read", mount.path / name) for name in names]
                    if allowed:
                        assert [answer["size"] for answer in got] == [len(SECRET)] * len(got)
                    else:
                        assert [answer["errno"] for answer in got] == [5] * len(got)
                        assert [host.seen for host in inner] == [[], [], []]
                        mount.assert_logged("private-redirects=true allows it (EIO)", times=3)
