"""Credentials come from netrc and go to the source's own origin, nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.errors import SetupError
from tests.remotes.conftest import Opener
from tests.support.hostile import good, hostile, redirect

BASIC = "Basic dXNlcjpzM2NyZXQ="


@pytest.fixture
def netrc(tmp_path: Path) -> Path:
    path = tmp_path / ".netrc"
    path.write_text("machine 127.0.0.1 login user password s3cret\ndefault login other password other\n")
    path.chmod(0o600)
    return path


async def test_sent_to_the_source(opened: Opener, netrc: Path) -> None:
    assert netrc.exists()
    with hostile({"/f": good(b"x")}) as server:
        await opened(server.url).stat("f")
        assert server.seen[0].headers["authorization"] == BASIC


async def test_netrc_elsewhere(
    opened: Opener, netrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("NETRC", str(tmp_path / "elsewhere"))
    with hostile({"/f": good(b"x")}) as server:
        await opened(server.url).stat("f")
        assert server.seen[0].headers["authorization"] == BASIC


async def test_not_sent_to_another_origin(opened: Opener, netrc: Path) -> None:
    """Another port of the same host is another origin; a redirect within the origin keeps them."""
    assert netrc.exists()
    with (
        hostile({"/g": good(b"x")}) as other,
        hostile(
            {
                "/f": redirect("/e"),
                "/e": redirect(f"{other.url}g", headers={"Set-Cookie": "a=b"}),
                "/g": good(b""),
            }
        ) as server,
    ):
        remote = opened(server.url)
        await remote.stat("f")
        await remote.stat("g")
        assert [seen.headers.get("authorization") for seen in server.seen] == [BASIC] * 3
        assert "authorization" not in other.seen[0].headers
        assert all("cookie" not in seen.headers for seen in [*server.seen, *other.seen])


async def test_hosts_without_an_entry_get_none(opened: Opener, netrc: Path) -> None:
    """Not even the file's default: a password is for a host that was named."""
    netrc.write_text(netrc.read_text().replace("127.0.0.1", "example.org"))
    with hostile({"/f": good(b"x")}) as server:
        await opened(server.url).stat("f")
        assert "authorization" not in server.seen[0].headers


@pytest.mark.parametrize("content", ["machine 127.0.0.1 pasword s3cret", "what s3cret is this"])
async def test_a_broken_netrc_is_said_without_its_content(netrc: Path, content: str, opened: Opener) -> None:
    netrc.write_text(content)
    with pytest.raises(SetupError, match="netrc") as caught:
        opened("http://127.0.0.1/")
    assert "s3cret" not in str(caught.value)


async def test_a_named_netrc_must_be_there(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path))
    with pytest.raises(SetupError):
        opened("http://127.0.0.1/")
