"""Writing manifests: rows out, in each format that is read, into a file that appears when it is whole."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from mirror.errors import SetupError, UsageError
from mirror.remotes.manifest.formats import CSV, JSONL, by_extension

COLUMNS = ("path", "url", "size", "mtime", "sha256", "md5", "crc32c", "etag")

_EPOCH = datetime(1970, 1, 1)

Line = dict[str, Any]
"""A row: of `COLUMNS` those that are known. ``mtime`` is nanoseconds since the epoch."""


class Writer(Protocol):
    """One format. Blocking."""

    def write(self, lines: Sequence[Line]) -> None:
        """Write rows."""

    def end(self) -> None:
        """Write what comes after all rows."""

    def abandon(self) -> None:
        """Write nothing more."""


def format_of(named: str | None, output: Path | None) -> str:
    """The format that a user asked for, by name or by the output's extension; else JSON Lines."""
    return named or (by_extension(output.name) if output is not None else None) or JSONL


class _Jsonl:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, lines: Sequence[Line]) -> None:
        made = (json.dumps(_timed(line), ensure_ascii=False) for line in lines)
        self._file.write("".join(f"{text}\n" for text in made).encode())

    def end(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Csv:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._text, COLUMNS, lineterminator="\n")
        self._writer.writeheader()
        self._pass_on()

    def write(self, lines: Sequence[Line]) -> None:
        self._writer.writerows(_timed(line) for line in lines)
        self._pass_on()

    def _pass_on(self) -> None:
        self._file.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()

    def end(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Parquet:
    """Row groups of `ROWS` rows."""

    ROWS = 100_000

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an optional and heavy dependency
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as exc:
            raise SetupError("Parquet cannot be written here; run: pip install 'mirrorfs[parquet]'") from exc
        types = {"size": pa.int64(), "mtime": pa.timestamp("ns", tz="UTC")}
        self._pa = pa
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        self._sink = _Sink(file)
        self._writer = parquet.ParquetWriter(self._sink, self._schema)
        self._lines: list[Line] = []

    def write(self, lines: Sequence[Line]) -> None:
        self._lines += lines
        if len(self._lines) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = [
            self._pa.array([line.get(field.name) for line in self._lines], field.type)
            for field in self._schema
        ]
        self._writer.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))
        self._lines = []

    def end(self) -> None:
        if self._lines:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        self._sink.file = None
        self._writer.close()


class _Sink(io.RawIOBase):
    """Where a Parquet file goes: its writer always writes an end, and what is not whole must not have one."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file: BinaryIO | None = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.file is not None:
            self.file.write(data)
        return len(data)


def _timed(line: Line) -> Line:
    return line if "mtime" not in line else line | {"mtime": _text(line["mtime"])}


def _text(moment: int) -> str:
    """Nanoseconds since the epoch as ``2026-11-23T14:02:14Z``, with a fraction where there is one."""
    seconds, below = divmod(moment, 10**9)
    fraction = f".{below:09d}".rstrip("0") if below else ""
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()}{fraction}Z"


_WRITERS: dict[str, Callable[[BinaryIO], Writer]] = {JSONL: _Jsonl, CSV: _Csv}


def check(output: Path | None) -> None:
    """Refuse what cannot be written to, before anything is asked of an origin.

    Raises:
        UsageError: it is a folder or a device.
        SetupError: its folder is not there, or may not be written to.
    """
    if output is None:
        return
    if output.exists() and not stat.S_ISREG(output.stat().st_mode):
        raise UsageError(f"--output {output} is not a file; write '-' for standard output")
    if not output.parent.is_dir():
        raise SetupError(f"there is no folder {output.parent}: make it, or choose another --output")
    if not os.access(output.parent, os.W_OK):
        raise SetupError(f"{output.parent} may not be written to: choose another --output")


@contextmanager
def opened(output: Path | None, form: str) -> Iterator[Writer]:
    """Write a manifest; a file appears, or takes the place of an old one, when this context ends well.

    Args:
        output: the file; one whose name ends in ``.gz`` is compressed. None: standard output.
        form: one of the formats.

    Raises:
        SetupError: it cannot be written.
    """
    where = "standard output" if output is None else str(output)
    try:
        if output is None:
            with _written(cast("BinaryIO", sys.stdout.buffer), form) as writer:
                yield writer
            sys.stdout.buffer.flush()
            return
        number, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
        try:
            with os.fdopen(number, "wb") as file:
                if output.suffix == ".gz":
                    packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
                    with packed, _written(cast("BinaryIO", packed), form) as writer:
                        yield writer
                else:
                    with _written(cast("BinaryIO", file), form) as writer:
                        yield writer
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            Path(name).replace(output)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise SetupError(f"{where} cannot be written ({exc.strerror})") from exc


@contextmanager
def _written(file: BinaryIO, form: str) -> Iterator[Writer]:
    writer = _WRITERS.get(form, _Parquet)(file)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise
    writer.end()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
