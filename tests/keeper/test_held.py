"""Held files: a lock says that a file is in use while it is open; the keeper gives it up when asked."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.keeper.conftest import Home
from tests.support.waiting import eventually


def is_free(path: Path) -> bool:
    """Whether nobody has locked the file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("passthrough", [True, False])
def test_a_file_is_locked_while_it_is_open(home: Home, *, passthrough: bool) -> None:
    """In every mount a complete file stays locked until it was retired and its last handle released."""
    home.add(whole=100_000, retire=10)
    home.start(passthrough=passthrough)
    data = (home.files / "whole").read_bytes()
    with (home.path / "whole").open("rb") as file:
        assert not is_free(home.files / "whole")
        backing = home.status()["backing"]
        assert (backing["held"], backing["registered"], backing["open"]) == (1, passthrough, passthrough)
        (held,) = backing["files"]
        assert (held["backing_id"] is not None) == passthrough
        assert (held["open_handles"], held["cached_handles"]) == ((1, 0) if passthrough else (0, 1))
        (home.path / "retire").read_bytes()
        eventually(lambda: home.backing()["whole"]["retiring"], "it is retiring")
        assert not is_free(home.files / "whole")
        assert file.read() == data
    eventually(lambda: is_free(home.files / "whole"), "its last handle is released")
    assert home.status()["backing"]["held"] == 0


def test_open_files_keep_their_place_in_the_budget(home: Home) -> None:
    """Without passthrough, too, only files that nobody has open are let go to make room."""
    home.add(whole1=100, whole2=100, whole3=100)
    home.start(passthrough=False, backing_limit=2)
    with (home.path / "whole1").open("rb"):
        for name in ("whole2", "whole3"):
            (home.path / name).read_bytes()
            eventually(lambda: sum(f["cached_handles"] for f in home.backing().values()) == 1, "released")
        assert home.backing().keys() == {"whole1", "whole3"}
        assert not is_free(home.files / "whole1")
        eventually(lambda: is_free(home.files / "whole2"), "it made room")


@pytest.mark.parametrize("passthrough", [True, False])
def test_a_file_yields_once_it_is_closed(home: Home, *, passthrough: bool) -> None:
    """Asked to let go the keeper keeps what is open; what it lets go can be locked at once."""
    home.add(**{"whole": 100_000, "plain": 100, "yield": 10})
    home.start(passthrough=passthrough)
    data = (home.files / "whole").read_bytes()

    def yielded() -> set[str]:
        (home.path / "yield").read_bytes()
        counters = home.status()["counters"]
        assert counters["still_locked"] == []
        assert "yield" not in counters["let_go"]  # its own OPEN is on its way
        return set(counters["let_go"])

    for _ in range(10):
        with (home.path / "whole").open("rb") as file, (home.path / "plain").open("rb"):
            assert not yielded() & {"whole", "plain"}
            assert file.read() == data
        eventually(lambda: yielded() >= {"whole", "plain"}, "both are released")
        assert is_free(home.files / "whole")
    counters = home.counters()
    assert counters["yielded"]
    assert counters["yields_busy"] > 0
    assert counters["yields_unanswered"] == 0
