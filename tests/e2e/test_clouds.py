"""`docs/sources/gcs.md`, `docs/sources/azure.md`: buckets and containers, mounted and on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.azure import KEY, azurite
from tests.support.clouds import ByBeginning
from tests.support.command import mirror
from tests.support.data import MiB, noise
from tests.support.failures import errno_of_reading
from tests.support.gcs import fake_gcs
from tests.support.hostile import hostile, status
from tests.support.mounts import mounted, prepared
from tests.support.waiting import eventually

SMALL = {f"set/{number // 10}/{number}.bin": noise(number, 1000 + number) for number in range(30)}
LARGE = {
    "large.bin": noise("large", 40 * MiB),
    "empty.bin": b"",
    "two words & more.bin": noise("words", 5000),
}


@contextmanager
def gs() -> Iterator[tuple[str, dict[str, str]]]:
    with fake_gcs() as bucket:
        for key, data in (SMALL | LARGE).items():
            bucket.put(f"data/{key}", data)
        yield bucket.source("data/"), {}


@contextmanager
def az() -> Iterator[tuple[str, dict[str, str]]]:
    with azurite() as container:
        for key, data in (SMALL | LARGE).items():
            container.put(f"data/{key}", data)
        yield container.source("data/"), {"AZURE_STORAGE_KEY": KEY}


KINDS = pytest.mark.parametrize("kind", [gs, az], ids=lambda kind: str(kind.__name__))


@KINDS
def test_a_mount_reads_right_bytes_and_the_kernel_serves_them(kind: type) -> None:
    with kind() as (source, env), mounted(source, env=env) as mount:
        assert sorted(path.name for path in mount.path.iterdir()) == sorted([*LARGE, "set"])
        assert len(list((mount.path / "set").rglob("*.bin"))) == len(SMALL)
        for key, data in (SMALL | LARGE).items():
            assert (mount.path / key).stat().st_size == len(data)
            assert (mount.path / key).read_bytes() == data
        fd = mount.open_passthrough("large.bin")
        try:
            before = mount.counters()["read_requests"]
            assert os.pread(fd, 100, 30 * MiB) == LARGE["large.bin"][30 * MiB : 30 * MiB + 100]
            assert mount.counters()["read_requests"] == before
        finally:
            os.close(fd)
        assert errno_of_reading(mount.path / "absent") == "ENOENT"


@KINDS
def test_warm_and_ls(kind: type, tmp_path: Path) -> None:
    with kind() as (source, env):
        cache = str(tmp_path / "cache")
        mirror("warm", source, "set/", "--cache", cache, env=env).ok()
        listed = json.loads(mirror("ls", "-R", "--json", source, "--cache", cache, env=env).ok().out)
        cached = {row["path"] for row in listed if row.get("percent") == 100 and row["path"].endswith(".bin")}
        assert cached >= set(SMALL)
        assert "large.bin" not in cached


def test_a_new_version_is_seen_and_the_old_one_stays_open() -> None:
    """By its generation, also where size and time do not tell."""
    with fake_gcs() as bucket:
        bucket.put("a", b"one")
        with (
            mounted(bucket.source(), args=["--ttl", "0"]) as mount,
            (mount.path / "a").open("rb") as before,
        ):
            assert before.read() == b"one"
            bucket.put("a", b"two")
            eventually(lambda: (mount.path / "a").read_bytes() == b"two", "the new version is there")
            before.seek(0)
            assert before.read() == b"one"


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("gs://bucket/?endpoint={url}", 404, "no such bucket"),
        ("gs://bucket/?endpoint={url}", 403, "not public"),
        ("az://account/container/?anonymous&endpoint={url}", 404, "no such container"),
        ("az://account/container/?anonymous&endpoint={url}", 403, "not public"),
    ],
)
def test_what_cannot_be_mounted_says_why_in_a_line(source: str, code: int, said: str) -> None:
    with (
        hostile(ByBeginning({"/": status(code)})) as server,
        prepared(source.format(url=server.url), args=["--deadline", "2"]) as mount,
    ):
        outcome = mount.mount()
        assert outcome.code == 1
        assert len(outcome.lines) == 1
        assert said in outcome.err


def test_a_server_that_is_down_says_so(tmp_path: Path) -> None:
    with hostile({}) as server:
        url = server.url
    for source in (f"gs://bucket/?endpoint={url}", f"az://account/container/?anonymous&endpoint={url}"):
        outcome = mirror("ls", source, "--cache", tmp_path / "cache", "--deadline", "2")
        assert outcome.code == 1
        assert "is the server running" in outcome.err


def test_secrets_of_the_settings_file_stay_there(tmp_path: Path) -> None:
    """Neither a key nor a signature is in a log, the index, an attribute, a command line or the status."""
    with azurite() as container:
        container.put("a", noise("a", 1000))
        sas = container.sas()
        signature = sas.partition("sig=")[2]
        for name, value, secret in (
            ("account-key", KEY, KEY.rstrip("=")),
            ("sas-token", sas, signature.partition("%3D")[0]),
        ):
            settings = tmp_path / f"{name}.toml"
            settings.write_text(f'["az://devstoreaccount1/"]\n{name} = "{value}"\n')
            settings.chmod(0o600)
            env = {"MIRROR_CONFIG": str(settings)}
            with mounted(container.source(), env=env, cache=tmp_path / name) as mount:
                assert (mount.path / "a").read_bytes() == noise("a", 1000)
                seen = [json.dumps(mount.status()).encode(), mount.log.encode()]
                seen += [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in mount.processes()]
                seen.append(str(mount.mirror("ls", container.source()).ok()).encode())
            seen += [path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()]
            for path in (tmp_path / name).rglob("*"):
                seen += [os.getxattr(path, attribute) for attribute in os.listxattr(path)]
            assert secret.encode() not in b"\n".join(seen)
