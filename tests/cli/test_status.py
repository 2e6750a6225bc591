"""What ``mirror status`` makes of what the keepers say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mirror import runtime
from mirror.cli.status import rows, status
from mirror.errors import SetupError
from mirror.keeper import client

MOUNT: dict[str, Any] = {
    "mountpoint": "/mnt/[bold]a",
    "source": "https://example.org/",
    "cache": "/cache",
    "passthrough": True,
    "passthrough_reason": None,
    "keeper_pid": 10,
    "worker_pid": 11,
    "worker_restarts": 0,
    "counters": {"read_requests": 1234, "opens_passthrough": 5, "opens_cached": 6},
    "backing": {"held": 3, "registered": 2, "open": 1, "limit": 19000, "files": []},
}


def ask(
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, dict[str, Any] | str],
    *args: str,
    owner: int | None = None,
) -> Result:
    def answer(mountpoint: str) -> dict[str, Any]:
        said = answers[mountpoint]
        if isinstance(said, str):
            raise SetupError(said)
        return said

    mounts = [runtime.MountPoint(Path(path), "s", runtime.FSTYPE, "0:1", owner) for path in answers]
    monkeypatch.setattr(runtime, "mounts", lambda: mounts)
    monkeypatch.setattr(client, "status", answer)
    return CliRunner().invoke(status, args)


def test_no_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, as_json = ask(monkeypatch, {}), ask(monkeypatch, {}, "--json")
    assert (plain.exit_code, plain.stdout) == (0, "no mounts\n")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (0, [])


def test_json_is_what_the_keepers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask(monkeypatch, {"/a": MOUNT, "/b": MOUNT}, "--json")
    assert json.loads(result.stdout) == [MOUNT, MOUNT]


def test_a_silent_keeper_hides_no_other_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask(monkeypatch, {"/a": "the keeper of /a is dead", "/b": MOUNT}, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [MOUNT]
    assert result.stderr == "mirror: the keeper of /a is dead\n"


def test_mounts_of_others_are_named_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    others = os.geteuid() + 1
    result = ask(monkeypatch, {"/a": "the keeper of /a does not answer"}, owner=others)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"mirror: /a is uid {others}'s: their 'mirror status' shows it\n"
    ours = ask(monkeypatch, {"/a": "the keeper of /a does not answer"}, owner=os.geteuid())
    assert ours.exit_code == 1


def test_a_table_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask(monkeypatch, {"/a": MOUNT})
    assert result.exit_code == 0
    assert "/mnt/[bold]a" in result.stdout
    assert "1,234 requests reached the daemon" in result.stdout


def test_a_mount_without_passthrough_says_why() -> None:
    off = MOUNT | {"passthrough": False, "passthrough_reason": "no CAP_SYS_ADMIN"}
    assert dict(rows(off))["passthrough"] == "off: no CAP_SYS_ADMIN"


def test_restarts_are_told() -> None:
    assert dict(rows(MOUNT))["processes"] == "keeper 10, worker 11"
    again = MOUNT | {"worker_restarts": 1, "worker_pid": None}
    assert dict(rows(again))["processes"] == "keeper 10, worker starting, restarted 1 time"


def test_a_worker_that_has_not_said_anything_yet_is_no_failure() -> None:
    assert dict(rows(MOUNT | {"counters": {}}))["origin"] == "0 requests, 0 B fetched"
