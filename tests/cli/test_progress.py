"""What a warming run says on its way and at its end."""

from __future__ import annotations

import io
import json

import pytest

from mirror.cli import progress
from mirror.cli.warm import as_document, sentence
from mirror.warm import Progress, Summary


def test_a_line_marks_totals_that_still_grow() -> None:
    seen = Progress(files_done=3, files_total=10, bytes_done=1024, bytes_total=4096, listing=True)
    assert progress.line(seen, 1.0) == "3 of 10+ files, 1.00 KiB of 4.00 KiB+, 0.0 MB/s"


def test_a_line_has_rate_time_left_and_failures() -> None:
    seen = Progress(
        files_done=5,
        files_total=10,
        bytes_done=50_000_000,
        bytes_total=100_000_000,
        bytes_fetched=50_000_000,
        failed=1,
        listing=False,
    )
    assert progress.line(seen, 2.0) == "5 of 10 files, 47.7 MiB of 95.4 MiB, 25 MB/s, 2.0 s left, 1 FAILED"


def test_time_left_counts_only_what_this_run_fetched() -> None:
    """A resumed run has much done at once; that says nothing about the rate."""
    resumed = Progress(bytes_done=90, bytes_total=100, bytes_fetched=5, listing=False)
    assert progress.seconds_left(resumed, 1.0) == 2.0
    assert progress.seconds_left(Progress(bytes_done=90, bytes_total=100, listing=False), 1.0) is None
    assert progress.seconds_left(Progress(bytes_fetched=5, listing=True), 1.0) is None


def test_files_under_way_count() -> None:
    """One large file moves the bar and the time left, long before it is complete."""
    large = Progress(bytes_total=100, bytes_under_way=60, bytes_fetched=60, listing=False, files_total=1)
    assert progress.there(large) == 60
    assert progress.seconds_left(large, 6.0) == 4.0
    assert progress.line(large, 6.0).startswith("0 of 1 files, 60 B of 100 B")


def test_plain_lines_come_every_few_seconds() -> None:
    now = 0.0
    lines: list[str] = []
    report = progress.plain(lines.append, clock=lambda: now)
    for now in (0.1, 4.9, 5.0, 5.1, 9.9, 10.0):  # noqa: B007  (the clock reads it)
        report(Progress())
    assert len(lines) == 2


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.reporter(quiet=False) as report:
        report(Progress(files_done=1, files_total=2, bytes_done=10, bytes_total=20, listing=False))
    assert "1 of 2 files" in terminal.getvalue()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.reporter(quiet=True) as report:
        report(Progress())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (
            Summary(files_done=3, files_total=3, bytes_total=3072, listing=False),
            "3 files, 3.00 KiB: all there already, nothing to fetch",
        ),
        (
            Summary(
                files_done=3,
                files_total=4,
                bytes_total=4096,
                files_fetched=1,
                bytes_fetched=2_000_000,
                failed=1,
                elapsed=2.0,
                listing=False,
            ),
            (
                "4 files, 4.00 KiB: 1 file fetched (1.91 MiB in 2.0 s, 1.0 MB/s), "
                "2 files already there, 1 FAILED"
            ),
        ),
        (Summary(listing=False), "0 files, 0 B: 0 files fetched (0 B in 0.0 s, -)"),
    ],
)
def test_the_end_in_one_sentence(summary: Summary, text: str) -> None:
    assert sentence(summary) == text


def test_the_end_as_json_names_every_failure() -> None:
    summary = Summary(files_total=1, failed=1, failures=[("a/b", "refused")], listing=False)
    document = json.loads(as_document(summary))
    assert document["ok"] is False
    assert document["failures"] == [{"path": "a/b", "reason": "refused"}]
    assert document["files_total"] == 1
