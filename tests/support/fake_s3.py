"""A small S3 of our own, for what no server on loopback does: regions, tokens that expire, errors on demand.

It answers on `tests.support.hostile`, so a test sees each request with all its headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.hostile import DATE, Behaviour, Hostile, Seen, Wire, good, hostile

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/s3/")


def error(status: int, code: str, *, message: str = "", **more: str) -> Behaviour:
    """An error as S3 says it; HEAD gets none of it."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in more.items())
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{inner}</Error>".encode()

    def behave(seen: Seen, wire: Wire) -> None:
        wire.head(status, {"Content-Type": "application/xml", "Content-Length": len(body)})
        if seen.method != "HEAD":
            wire.send(body)

    return behave


class FakeS3(dict[str, Behaviour]):
    """The objects of one bucket, and how it misbehaves. As a mapping: what `hostile` asks."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        super().__init__()
        self.objects = dict(objects)
        self.region = ""
        """Where the bucket is; requests that are signed for another are sent there. Empty: anywhere."""
        self.says_region_in_body = False
        """As servers that are not Amazon's do, with a 400."""
        self.expired: set[str] = set()
        """Access keys whose token has."""
        self.instead: dict[str, Behaviour] = {}
        """What is answered to a key, or to ``""``, a listing, instead of what it holds."""

    def get(self, path: str, default: object = None) -> Behaviour:  # type: ignore[override]
        del path, default
        return self.answer

    def answer(self, seen: Seen, wire: Wire) -> None:
        url = urlsplit(seen.path)
        key = unquote(url.path.removeprefix("/bucket").removeprefix("/"))
        found = _CREDENTIAL.search(seen.headers.get("authorization", ""))
        access_key, region = (found[1], found[2]) if found else ("", "")
        if self.region and region and region != self.region:
            self._elsewhere()(seen, wire)
        elif access_key in self.expired:
            error(400, "ExpiredToken", message="The provided token has expired.")(seen, wire)
        elif key in self.instead:
            self.instead[key](seen, wire)
        elif not key:
            self._list(parse_qs(url.query))(seen, wire)
        elif key in self.objects:
            good(self.objects[key], headers={"x-amz-request-id": "1"})(seen, wire)
        else:
            error(404, "NoSuchKey")(seen, wire)

    def _elsewhere(self) -> Behaviour:
        if self.says_region_in_body:
            return error(400, "AuthorizationHeaderMalformed", Region=self.region)
        body = b"<Error><Code>PermanentRedirect</Code></Error>"

        def behave(seen: Seen, wire: Wire) -> None:
            wire.head(301, {"x-amz-bucket-region": self.region, "Content-Length": len(body)})
            if seen.method != "HEAD":
                wire.send(body)

        return behave

    def _list(self, query: Mapping[str, list[str]]) -> Behaviour:
        prefix = query.get("prefix", [""])[0]
        rows, common = [], {}
        for key, body in sorted(self.objects.items()):
            if not key.startswith(prefix):
                continue
            folder, slash, _ = key[len(prefix) :].partition("/")
            if slash and "delimiter" in query:
                common[folder] = (
                    f"<CommonPrefixes><Prefix>{quote(prefix + folder)}/</Prefix></CommonPrefixes>"
                )
                continue
            rows.append(
                f"<Contents><Key>{quote(key)}</Key><Size>{len(body)}</Size><ETag>&quot;one&quot;</ETag>"
                "<LastModified>2026-11-23T14:02:14.000Z</LastModified></Contents>"
            )
        return listing("".join([*rows, *common.values()]))


def listing(inner: str, *, tail: str = "<IsTruncated>false</IsTruncated>") -> Behaviour:
    """A page of ListObjectsV2."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult '
        'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
        f"{tail}{inner}</ListBucketResult>"
    ).encode()
    return _xml(body)


def _xml(body: bytes) -> Behaviour:
    def behave(seen: Seen, wire: Wire) -> None:
        wire.head(
            200, {"Content-Type": "application/xml", "Content-Length": len(body), "Last-Modified": DATE}
        )
        if seen.method != "HEAD":
            wire.send(body)

    return behave


@contextmanager
def fake_s3(objects: Mapping[str, bytes]) -> Iterator[tuple[FakeS3, Hostile]]:
    """Start one; its only bucket is ``bucket``."""
    fake = FakeS3(objects)
    with hostile(fake) as server:
        yield fake, server


class Vending:
    """Gives out credentials as a container's agent does, others each time."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.lasts = timedelta(hours=6)
        self.fails = False

    def answer(self, seen: Seen, wire: Wire) -> None:
        if self.fails:
            body = b'{"code": "Down", "message": "not now"}'
            wire.head(500, {"Content-Length": len(body)})
        else:
            self.given.append(f"ASIA{len(self.given)}")
            until = datetime.now(UTC) + self.lasts
            body = json.dumps(
                {
                    "AccessKeyId": self.given[-1],
                    "SecretAccessKey": "vended-secret",
                    "Token": "vended-token",
                    "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            ).encode()
            wire.head(200, {"Content-Type": "application/json", "Content-Length": len(body)})
        wire.send(body)


@contextmanager
def vending() -> Iterator[tuple[Vending, str]]:
    """Start one; yields it and its URL."""
    machine = Vending()
    with hostile({"/creds": machine.answer}) as server:
        yield machine, f"{server.url}creds"
