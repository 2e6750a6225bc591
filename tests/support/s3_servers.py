"""Real servers of S3, each on a free loopback port, and a way to put objects into them.

moto      Amazon's behaviour, in memory: versions, policies, archives, errors
SeaweedFS a store that is used in earnest
rclone    a folder on disk, served as a bucket
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.servers import START_SECONDS, Request, Server, ServerError, _serve

KEY = "AKIACANARYACCESSKEY0"
SECRET = "canary/Secret+Key0123456789abcdefghijklm"

ENV = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a user's environment holds."""

UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def client(server: Server, *, region: str = "us-east-1", **more: str) -> Any:
    """AWS's own client of a server: what puts objects there, and says what it would answer."""
    own = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET} | more
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"max_attempts": 1},
    )
    session = botocore.session.Session()
    return session.create_client(
        "s3", region_name=region, endpoint_url=server.url.rstrip("/"), config=config, **own
    )


def fill(
    server: Server, bucket: str, folder: Path, *, below: str = "", unlisted: frozenset[str] = frozenset()
) -> None:
    """Put a folder on disk into a bucket, its empty files and names as they are."""
    s3 = client(server)
    s3.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in unlisted:
            s3.put_object(Bucket=bucket, Key=below + str(path.relative_to(folder)), Body=path.read_bytes())


def source(server: Server, path: str, **options: str) -> str:
    """A source of a bucket on a server."""
    query = "".join(f"&{name}={value}" for name, value in options.items())
    return f"s3://{path}?endpoint={server.url.rstrip('/')}{query}"


def _unlogged(_: str) -> Request | None:
    return None


@contextmanager
def moto() -> Iterator[Server]:
    """Start moto."""

    def configure(_: Path, port: int) -> list[str]:
        return [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with _serve(Path("/"), configure, _unlogged) as server:
        yield server


@contextmanager
def rclone(folder: Path, *, unsigned: bool = False) -> Iterator[Server]:
    """Serve the folders in a folder as buckets; ``unsigned``: to anybody."""

    def configure(_: Path, port: int) -> list[str]:
        keys = [] if unsigned else ["--auth-key", f"{KEY},{SECRET}"]
        program = str(Path(sys.executable).with_name("rclone"))
        return [
            program,
            "serve",
            "s3",
            "--addr",
            f"127.0.0.1:{port}",
            *keys,
            "--dir-cache-time",
            "0",
            "--copy-links",
            str(folder),
        ]

    with _serve(folder, configure, _unlogged) as server:
        yield server


@contextmanager
def seaweedfs() -> Iterator[Server]:
    """Start SeaweedFS, all of it in one process."""

    def configure(home: Path, port: int) -> list[str]:
        identity = {
            "name": "test",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (home / "data").mkdir(exist_ok=True)
        free = _free_ports(8)
        program = str(Path(sys.executable).with_name("weed"))
        return [
            *(program, "server", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-dir", str(home / "data")),
            *("-master.volumeSizeLimitMB", "64", "-volume.max", "100", "-filer", "-s3"),
            *("-s3.config", str(home / "s3.json"), "-s3.port", str(port), "-s3.port.grpc", str(free[0])),
            *("-master.port", str(free[1]), "-master.port.grpc", str(free[2])),
            *("-volume.port", str(free[3]), "-volume.port.grpc", str(free[4])),
            *("-filer.port", str(free[5]), "-filer.port.grpc", str(free[6])),
            *("-s3.port.iceberg", "0", "-s3.port.lance", "0", "-s3.iam=false"),
        ]

    with _serve(Path("/"), configure, _unlogged) as server:
        _wait_until_ready(server)
        yield server


def _wait_until_ready(server: Server) -> None:
    """It accepts connections before its volumes take objects."""
    s3 = client(server)
    until = time.monotonic() + 2 * START_SECONDS
    while True:
        try:
            s3.create_bucket(Bucket="ready")
            s3.put_object(Bucket="ready", Key="ready", Body=b"x")
        except (BotoCoreError, ClientError) as exc:
            if time.monotonic() > until:
                raise ServerError(f"SeaweedFS takes no objects: {exc}\n{server.log_tail()}") from exc
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
