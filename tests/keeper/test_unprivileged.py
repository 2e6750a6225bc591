"""A user without root: the mount comes from fusermount3, and everything but passthrough is the same."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keeper.conftest import HERE, WORKER, Home
from tests.support import mountinfo
from tests.support.unprivileged import User, unprivileged_user
from tests.support.waiting import eventually

PROGRAM = """if True:
    import json, sys
    from pathlib import Path
    from mirror.config import MountConfig
    from mirror.keeper import client, launch
    config = MountConfig.from_json(sys.argv[1])
    launch.start(config, worker=sys.argv[2])
    print(json.dumps(client.status(config.mountpoint)))
    print(len((Path(config.mountpoint) / "whole").read_bytes()))
    if sys.argv[3] == "unmount":
        client.unmount(config.mountpoint)
"""


@pytest.fixture
def user() -> Iterator[User]:
    """Someone who may mount, but not much else."""
    with unprivileged_user() as someone:
        yield someone


def mount_as(user: User, home: Home, then: str) -> dict[str, object]:
    """Mount, look at it, and perhaps unmount, as that user; returns the status."""
    home.add(whole=2_000_000)
    for path in (home.folder, *home.folder.rglob("*")):
        os.chown(path, user.uid, user.gid)
    environment = [
        f"PYTHONPATH={HERE}",
        f"MIRROR_RUNTIME={home.folder / 'run'}",
        f"PATH={os.environ['PATH']}",
    ]
    program = [sys.executable, "-P", "-c", PROGRAM, home.config.to_json(), WORKER, then]
    result = user.run("env", *environment, *program)
    assert result.returncode == 0, result.stderr + home.log
    status, size = result.stdout.splitlines()
    assert int(size) == 2_000_000
    loaded = json.loads(status)
    assert isinstance(loaded, dict)
    return loaded


def test_a_user_can_mount_and_unmount(user: User, home: Home) -> None:
    """Without root a mount works, says that passthrough is off and why, and unmounts cleanly."""
    status = mount_as(user, home, "unmount")
    assert status["passthrough"] is False
    assert "CAP_SYS_ADMIN" in str(status["passthrough_reason"])
    assert not mountinfo.is_mounted(home.path, user.table)
    eventually(lambda: not home.processes(), "all its processes end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_mount_is_left_however_the_keeper_ends(user: User, home: Home, number: signal.Signals) -> None:
    """However a user's keeper ends, the mount goes too, although the keeper may not unmount itself."""
    status = mount_as(user, home, "stay")
    fields = Path(f"/proc/{status['keeper_pid']}/status").read_text()
    assert "NoNewPrivs:\t1" in fields
    assert "CapPrm:\t0000000000000000" in fields
    os.kill(int(str(status["keeper_pid"])), number)
    eventually(lambda: not mountinfo.is_mounted(home.path, user.table), "the mount goes")
    eventually(lambda: not home.processes(), "all its processes end")
    for path in (home.folder / "run").iterdir():
        path.unlink()  # a killed keeper leaves its socket
