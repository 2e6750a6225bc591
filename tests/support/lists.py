"""Manifests for tests: rows in, files of each format out."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mirror.remotes.names import to_url

Fields = dict[str, Any]


def rows_of(folder: Path, url: str, *, digests: bool = True, times: bool = True) -> list[Fields]:
    """A row for every file below a folder that is served at ``url``."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            row: Fields = {"path": name, "url": f"{url}{to_url(name)}", "size": path.stat().st_size}
            if digests:
                row["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            if times:
                row["mtime"] = int(path.stat().st_mtime)
            found.append(row)
    return found


def jsonl(rows: Iterable[Fields]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_csv(rows: Iterable[Fields]) -> bytes:
    rows = list(rows)
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet(rows: Iterable[Fields]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as writer

    out = io.BytesIO()
    writer.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
