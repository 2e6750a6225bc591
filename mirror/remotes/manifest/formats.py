"""JSON Lines, CSV and Parquet: a file in, the fields of its rows out, one at a time.

The format goes by the name's extension, else by what the file begins with. What is compressed with gzip is
seen by its first bytes, whatever its name: a server may have sent ``list.jsonl`` compressed.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

from mirror.errors import SetupError
from mirror.remotes.manifest.rows import FIELDS

LONGEST_LINE = 1024 * 1024
"""Bytes of one line."""
MOST_BYTES = 64 << 30
"""Bytes of a list once it is decompressed: a small file could stand for any number of rows."""
BATCH = 4096
"""Rows of a Parquet file in memory at once."""

JSONL, CSV, PARQUET = "jsonl", "csv", "parquet"
EXTENSIONS = {
    "jsonl": JSONL,
    "ndjson": JSONL,
    "csv": CSV,
    "parquet": PARQUET,
}
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"

Numbered = tuple[int, Mapping[str, object]]
"""The number of a line (Parquet: of a row), from 1, and its fields."""


class BadListError(ValueError):
    """A file that is no manifest. ``line``: where that shows, or None."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


def by_extension(name: str) -> str | None:
    """The format that a file's name says; None: it does not."""
    return EXTENSIONS.get(name.lower().removesuffix(".gz").rpartition(".")[2])


def rows(file: BinaryIO, name: str) -> Iterator[Numbered]:
    """Read all rows.

    Args:
        file: open at its beginning, seekable.
        name: of the manifest; its extension says the format.

    Raises:
        BadListError: it is malformed.
        SetupError: it is a Parquet file, and what reads these is not installed.
        OSError: the file cannot be read.
    """
    begins = file.read(4)
    file.seek(0)
    if begins.startswith(_GZIP):
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            try:
                yield from _rows(cast("BinaryIO", unpacked), name)
            except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
                raise BadListError(f"it cannot be decompressed ({exc})") from exc
    else:
        yield from _rows(file, name)


def _rows(file: BinaryIO, name: str) -> Iterator[Numbered]:
    form = by_extension(name)
    if form is None:
        begins = file.read(4096)
        file.seek(0)
        form = _by_content(begins)
    if form == PARQUET:
        yield from _parquet(file)
    else:
        yield from (_jsonl if form == JSONL else _csv)(_lines(file))


def _by_content(begins: bytes) -> str:
    if begins.startswith(b"PAR1"):
        return PARQUET
    text = begins.removeprefix(_BOM).lstrip()
    if text.startswith(b"{"):
        return JSONL
    header = text.split(b"\n", 1)[0]
    if b"path" in header and b"url" in header and b"," in header:
        return CSV
    raise BadListError(
        "it is neither JSON Lines, nor CSV with a header that has path and url, nor Parquet", 1
    )


def _lines(file: BinaryIO) -> Iterator[str]:
    number = 0
    left = MOST_BYTES
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        left -= len(line)
        if len(line) > LONGEST_LINE:
            raise BadListError(f"it has more than {LONGEST_LINE >> 20} MiB", number)
        if left < 0:
            raise BadListError(f"the list has more than {MOST_BYTES >> 30} GiB", number)
        if number == 1:
            line = line.removeprefix(_BOM)
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise BadListError("it is not UTF-8", number) from None


def _no_constant(_: str) -> object:
    raise ValueError("not a number")


# Fractions stay text: a time of 19 digits has no exact float.
_DECODE = json.JSONDecoder(parse_float=str, parse_constant=_no_constant).decode


def _jsonl(lines: Iterator[str]) -> Iterator[Numbered]:
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            fields: Any = _DECODE(line)
        except (ValueError, RecursionError):
            raise BadListError("it is not JSON", number) from None  # what the parser says may show a URL
        if not isinstance(fields, dict):
            raise BadListError("it is not a JSON object", number)
        yield number, fields


def _csv(lines: Iterator[str]) -> Iterator[Numbered]:
    reader = csv.reader(lines, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        for needed in ("path", "url"):
            if needed not in names:
                raise BadListError(f"the header has no column {needed}", 1)
        for field in FIELDS:
            if names.count(field) > 1:
                raise BadListError(f"the header has two columns {field}", 1)
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise BadListError(
                    f"it has {len(values)} values, and the header {len(names)}", reader.line_num
                )
            yield reader.line_num, dict(zip(names, values, strict=True))
    except csv.Error as exc:
        raise BadListError(f"it is not CSV ({exc})", reader.line_num) from None


def _parquet(file: BinaryIO) -> Iterator[Numbered]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional and heavy dependency
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as exc:
        raise SetupError("Parquet cannot be read here; run: pip install 'mirrorfs[parquet]'") from exc
    try:
        opened = parquet.ParquetFile(file)
        there = opened.schema_arrow.names
        for needed in ("path", "url"):
            if needed not in there:
                raise BadListError(f"it has no column {needed}")
        number = 0
        for batch in opened.iter_batches(
            batch_size=BATCH, columns=[name for name in FIELDS if name in there]
        ):
            columns = {name: _values(pa, batch.column(name)) for name in batch.schema.names}
            for values in zip(*columns.values(), strict=True):
                number += 1
                yield number, dict(zip(columns, values, strict=True))
    except pa.ArrowException as exc:
        raise BadListError(f"it is not Parquet ({' '.join(str(exc).split())[:200]})") from exc


def _values(pa: Any, column: Any) -> list[object]:
    """The values of a column; times as seconds with a fraction, which is how rows have them."""
    if not pa.types.is_timestamp(column.type):
        values: list[object] = column.to_pylist()
        return values
    count = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()).to_pylist()
    return [
        None if value is None else f"{'-' * (value < 0)}{abs(value) // 10**9}.{abs(value) % 10**9:09d}"
        for value in count
    ]
