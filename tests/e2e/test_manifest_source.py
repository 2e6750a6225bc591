"""A manifest as the source of a real mount."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.data import MiB, noise, put
from tests.support.failures import errno_of_reading
from tests.support.lists import jsonl, rows_of
from tests.support.mounts import Mount, mounted, prepared
from tests.support.servers import Server, nginx
from tests.support.waiting import eventually

LARGE = 20 * MiB


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def write(path: Path, content: bytes) -> str:
    """Put a list in its place at once; returns its source."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)
    return f"manifest+file://{path}"


def test_files_on_any_hosts_are_one_tree(folder: Path, origin: Server, tmp_path: Path) -> None:
    """Two servers and a local file; what is complete is read by the kernel alone."""
    data = noise("large", LARGE + 3)
    put(folder, "one/large.bin", data)
    other = tmp_path / "other"
    put(other, "b.bin", b"from another host")
    put(tmp_path / "local", "c.bin", b"from this machine")
    with nginx(other) as second:
        rows = rows_of(folder, origin.url) + rows_of(other, second.url)
        rows.append({"path": "one/c.bin", "url": f"file://{tmp_path}/local/c.bin"})
        with mounted(write(tmp_path / "l.jsonl", jsonl(rows))) as mount:
            assert sorted(names(mount.path)) == ["b.bin", "one"]
            assert (mount.path / "b.bin").read_bytes() == b"from another host"
            assert (mount.path / "one" / "c.bin").read_bytes() == b"from this machine"
            assert (mount.path / "one" / "large.bin").read_bytes() == data
            fd = mount.open_passthrough("one/large.bin")
            try:
                before = mount.counters()["read_requests"]
                assert os.pread(fd, MiB, MiB) == data[MiB : 2 * MiB]
                assert mount.counters()["read_requests"] == before
            finally:
                os.close(fd)


def test_bytes_that_have_not_the_digest_of_the_list_are_refused(
    folder: Path, origin: Server, tmp_path: Path
) -> None:
    """Neither kept nor served as complete: the list is a promise."""
    put(folder, "good.bin", noise("good", 100_000))
    put(folder, "bad.bin", noise("bad", 100_000))
    rows = rows_of(folder, origin.url)
    rows[0]["sha256"] = "00" * 32
    assert rows[0]["path"] == "bad.bin"
    source = write(tmp_path / "l.jsonl", jsonl(rows))
    with mounted(source) as mount:
        assert errno_of_reading(mount.path / "bad.bin") == "EIO"
        assert (mount.path / "good.bin").read_bytes() == noise("good", 100_000)
        mount.assert_logged("does not match the SHA-256")
    with prepared(source) as mount:
        said = mount.mirror("warm", source)
        assert said.code == 1
        assert "bad.bin" in said.err


def test_a_new_list_is_a_new_tree(folder: Path, origin: Server, tmp_path: Path) -> None:
    """Within the TTL names come and go; what is the same by its digest stays cached."""
    put(folder, "a.bin", noise("a", 100_000))
    put(folder, "b.bin", noise("b", 100_000))
    rows = rows_of(folder, origin.url)
    source = write(tmp_path / "l.jsonl", jsonl(rows[:1]))
    with mounted(source, args=["--ttl", "0.1"]) as mount:
        assert (mount.path / "a.bin").read_bytes() == noise("a", 100_000)
        origin.forget()
        rows[0]["url"] += "?elsewhere"
        write(tmp_path / "l.jsonl", jsonl(rows))
        eventually((mount.path / "b.bin").exists, "the new name appears")
        assert (mount.path / "a.bin").read_bytes() == noise("a", 100_000)
        assert origin.requests() == []
        write(tmp_path / "l.jsonl", jsonl(rows[1:]))
        eventually(lambda: not (mount.path / "a.bin").exists(), "the old name goes")
        write(tmp_path / "l.jsonl", b"{}\n")
        assert (mount.path / "b.bin").read_bytes() == noise("b", 100_000)


@pytest.mark.parametrize("what", ["mount", "warm", "ls"])
def test_a_bad_list_is_refused_with_its_line(tmp_path: Path, what: str) -> None:
    rows = [{"path": "a", "url": "https://example.org/a"}, {"path": "../b", "url": "https://example.org/b"}]
    source = write(tmp_path / "l.jsonl", jsonl(rows))
    with prepared(source) as mount:
        said = mount.mount() if what == "mount" else mount.mirror(what, source)
        assert said.code == 1
        assert ", line 2: its path has a name that cannot be used" in said.lines[-1]


def test_a_list_whose_server_is_down_is_said(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        source = f"manifest+{server.url}l.jsonl"
        with prepared(source) as mount:
            said = mount.mount("--deadline", "2")
            assert (said.code, len(said.lines)) == (1, 1)
            assert "the manifest is not there" in said.lines[-1]
            server.stop()
            said = mount.mount("--deadline", "2")
            assert said.code == 1
            assert "refused" in said.lines[-1]


def test_a_signed_url_is_nowhere_on_disk_or_on_screen(folder: Path, tmp_path: Path) -> None:
    """Not in the index, an object's attributes, the log, or what any command says."""
    put(folder, "a.bin", noise("a", 100_000))
    with nginx(folder) as origin:
        rows = rows_of(folder, origin.url)
        rows[0]["url"] += "?X-Signature=geheim"
        rows.append({"path": "gone", "url": f"{origin.url}gone?X-Signature=geheim", "size": 5})
        source = write(tmp_path / "l.jsonl", jsonl(rows))
        with mounted(source, env={"MIRROR_DEBUG": "1"}) as mount:
            assert (mount.path / "a.bin").read_bytes() == noise("a", 100_000)
            assert errno_of_reading(mount.path / "gone") == "EIO"
            said = "".join(str(mount.mirror(*words)) for words in _commands(source, mount))
            assert "geheim" not in said + mount.log
            for path in mount.cache.rglob("*"):
                if path.is_file():
                    kept = [os.getxattr(path, name) for name in os.listxattr(path)]
                    assert b"geheim" not in b"".join([path.read_bytes(), *kept]), path


def _commands(source: str, mount: Mount) -> list[list[str]]:
    return [
        ["warm", source],
        ["ls", "--json", source],
        ["status", str(mount.path), "--json"],
        ["manifest", source],
        ["du", "--json"],
    ]


def test_a_list_that_the_command_wrote_is_a_source(folder: Path, origin: Server, tmp_path: Path) -> None:
    """From a web server to a list with digests, to a mount, to another list: nothing is lost."""
    for name in ("a.bin", "sub/b c.bin", "sub/ünïcode.bin"):
        put(folder, name, noise(name, 10_000))
    with prepared(origin.url) as mount:
        for extension in ("jsonl", "csv", "parquet", "csv.gz"):
            target = tmp_path / f"list.{extension}"
            mount.mirror("manifest", origin.url, "--sha256", "--output", target).ok()
            source = f"manifest+file://{target}"
            assert json.loads(mount.mirror("warm", source, "--json").ok().out)["files_done"] == 3
            with mounted(source, cache=mount.cache) as again:
                for name in ("a.bin", "sub/b c.bin", "sub/ünïcode.bin"):
                    assert (again.path / name).read_bytes() == noise(name, 10_000)
                    status = (folder / name).stat()
                    assert (again.path / name).stat().st_mtime_ns // 10**9 == status.st_mtime_ns // 10**9
            first = json.loads(mount.mirror("manifest", source).ok().out.splitlines()[0])
            assert first["url"].startswith(origin.url)
