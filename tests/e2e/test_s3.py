"""A bucket, mounted and warmed by the commands; against rclone, which serves a folder and checks keys."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import s3_servers
from tests.support.data import MiB, noise, put
from tests.support.failures import errno_of_reading
from tests.support.mounts import Mount, mounted, prepared
from tests.support.s3_servers import ENV, KEY, SECRET, UNSET, source
from tests.support.servers import Server

TOKEN = "canary-session-token-" + "T0ken" * 40

FILES = {"small.bin": 1000, "two words/large.bin": 20 * MiB, "two words/üñï+%20.bin": 3 * MiB, "none": 0}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests."""
    for variable in UNSET:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def bucket(folder: Path) -> Path:
    """What is in the bucket `bucket`, below `data/`."""
    for name, size in FILES.items():
        put(folder / "bucket" / "data", name, noise(name, size))
    return folder / "bucket" / "data"


@pytest.fixture
def server(folder: Path, bucket: Path) -> Iterator[Server]:
    assert bucket.is_dir()
    with s3_servers.rclone(folder) as server:
        yield server


def held(mount: Mount) -> bytes:
    """All that is on disk of a mount, and what its processes show."""
    found = [mount.log.encode()]
    for path in [*mount.cache.rglob("*"), *mount.runtime.rglob("*")]:
        if path.is_file():
            found.append(path.read_bytes())
            found += [os.getxattr(path, name) for name in os.listxattr(path)]
    found += [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in mount.processes()]
    found += [mount.mirror("status", mount.path, *more).ok().out.encode() for more in ((), ("--json",))]
    found.append(Path("/proc/mounts").read_bytes())
    return b"\n".join(found)


def test_a_bucket_is_read_through_the_mount(server: Server, bucket: Path) -> None:
    """Right bytes, and from the second open on from the kernel alone; nothing secret is kept anywhere."""
    env = ENV | {"MIRROR_DEBUG": "1", "AWS_SESSION_TOKEN": TOKEN}
    with mounted(source(server, "bucket/data/"), env=env) as mount:
        for name in FILES:
            assert (mount.path / name).read_bytes() == (bucket / name).read_bytes()
        fd = mount.open_passthrough("two words/large.bin")
        before = mount.counters()["read_requests"]
        assert os.pread(fd, MiB, 5 * MiB) == noise("two words/large.bin", 20 * MiB)[5 * MiB : 6 * MiB]
        os.close(fd)
        assert mount.counters()["read_requests"] == before
        assert errno_of_reading(mount.path / "absent") == "ENOENT"
        with sqlite3.connect(mount.cache / "index.sqlite") as index:
            index.execute("PRAGMA wal_checkpoint")
        index.close()
        everything = held(mount)
        assert b"s3://bucket/data/" in everything
        for secret in (KEY, SECRET, TOKEN):
            assert secret.encode() not in everything


def test_the_commands_know_buckets(server: Server) -> None:
    """`warm`, `ls` and a mount of one source, by the endpoint of the environment or of the URL: one tree."""
    url = source(server, "bucket/data/")
    with prepared(url, env=ENV) as mount:
        mount.mirror("warm", url, "two words/**").ok()
        listed = mount.mirror("ls", url, "--json").ok().out
        assert "small.bin" in listed
        plain = {**ENV, "AWS_ENDPOINT_URL_S3": server.url}
        env, mount.env = mount.env, plain
        assert "two words" in mount.mirror("ls", "s3://bucket/data/").ok().out
        mount.mirror("warm", "s3://bucket/data/").ok()
        mount.env = env
        server.stop()
        mount.mount().ok()
        assert (mount.path / "two words/large.bin").read_bytes() == noise("two words/large.bin", 20 * MiB)
        assert (mount.path / "small.bin").read_bytes() == noise("small.bin", 1000)


@pytest.mark.parametrize(
    ("path", "env", "says"),
    [
        ("bucket/data/", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "secret key"),
        ("bucket/data/", {"AWS_ACCESS_KEY_ID": "wrong"}, "access key"),
        ("bucket/data/", {"AWS_ACCESS_KEY_ID": ""}, "aws configure"),
        ("nowhere/data/", {}, "no bucket nowhere"),
        ("bucket/nothing/", {}, "check the URL"),
        ("bucket/data/", {"AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_what_cannot_be_mounted_says_why(server: Server, path: str, env: dict[str, str], says: str) -> None:
    """In one line, with what to do."""
    with prepared(source(server, path), env={**ENV, **env}, args=["--deadline", "5"]) as mount:
        said = mount.mount()
        assert said.code in (1, 2)
        assert says in said.err
        assert len(said.lines) == 1
        assert "wrong" not in said.err


def test_a_server_that_is_down_says_so(server: Server) -> None:
    server.stop()
    with prepared(source(server, "bucket/data/"), env=ENV, args=["--deadline", "3"]) as mount:
        said = mount.mount()
        assert said.code == 1
        assert "refused" in said.err
        assert len(said.lines) == 1


def test_anybody_may_mount_a_public_bucket(folder: Path, bucket: Path) -> None:
    """Without any credentials on the machine."""
    with s3_servers.rclone(folder, unsigned=True) as server:
        url = source(server, "bucket/data/small.bin", anonymous="true")
        with mounted(url, env={"AWS_EC2_METADATA_DISABLED": "true"}) as mount:
            assert (mount.path / "small.bin").read_bytes() == (bucket / "small.bin").read_bytes()
            assert [path.name for path in mount.path.iterdir()] == ["small.bin"]
