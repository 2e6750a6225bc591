"""Origins that rclone can read as well: one line in `ORIGINS` is one more kind of source in the bench.

An origin serves the bench's data on loopback and says how both sides name it. Both get the same variables
of the environment (which authority to trust, credentials), so neither has them in its arguments.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mirror.remotes.azure.account import EMULATED
from tests.support import s3_servers
from tests.support.azure import KEY, azurite
from tests.support.certificates import certificate
from tests.support.gcs import fake_gcs
from tests.support.servers import nginx
from tests.support.webdav import apache_dav


@dataclass(frozen=True, slots=True)
class Served:
    """One folder, served: how ours and rclone call it, both without a slash at the end."""

    source: str
    remote: str
    """rclone's connection string, to which a path can be added."""
    env: Mapping[str, str] = field(default_factory=dict)
    copying: tuple[str, ...] = ()
    """Options for `rclone copy` from it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One kind of source to be measured on."""

    key: str
    """Part of the rows' keys."""
    serve: Callable[[Path], AbstractContextManager[Served]]
    """Serves a folder."""


@contextmanager
def _http(root: Path) -> Iterator[Served]:
    # HTML, for rclone reads no other listing.
    with nginx(root, autoindex="html") as server:
        yield Served(server.url[:-1], f":http,url='{server.url}':")


@contextmanager
def _https(root: Path) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="authority-") as folder:
        cert, key = certificate(Path(folder), "IP:127.0.0.1")
        with nginx(root, autoindex="html", tls=(cert, key)) as server:
            yield Served(server.url[:-1], f":http,url='{server.url}':", {"SSL_CERT_FILE": str(cert)})


@contextmanager
def _s3(root: Path) -> Iterator[Served]:
    with s3_servers.seaweedfs() as server:
        s3_servers.fill(server, "bench", root)
        endpoint = server.url[:-1]
        env = {
            "AWS_ACCESS_KEY_ID": s3_servers.KEY,
            "AWS_SECRET_ACCESS_KEY": s3_servers.SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENDPOINT": endpoint,
            "RCLONE_S3_ENV_AUTH": "true",
        }
        yield Served("s3://bench", ":s3:bench/", env)


@contextmanager
def _webdav(root: Path) -> Iterator[Served]:
    with apache_dav(root) as server:
        address = server.url.removeprefix("http://")[:-1]
        yield Served(f"webdav://{address}", f":webdav,url='{server.url}',vendor=other:")


@contextmanager
def _gcs(root: Path) -> Iterator[Served]:
    with fake_gcs(root, on_disk=True) as bucket:
        env = {
            "STORAGE_EMULATOR_HOST": bucket.endpoint,
            "MIRROR_GS_ANONYMOUS": "true",
            "RCLONE_GCS_ENDPOINT": f"{bucket.endpoint}/storage/v1/",
            "RCLONE_GCS_ANONYMOUS": "true",
        }
        yield Served(f"gs://{bucket.name}", f":gcs:{bucket.name}/", env)


@contextmanager
def _azure(root: Path) -> Iterator[Served]:
    with azurite(root) as container:
        env = {
            "AZURE_STORAGE_ACCOUNT": EMULATED,
            "AZURE_STORAGE_KEY": KEY,
            "MIRROR_AZ_ENDPOINT": container.endpoint,
            "RCLONE_AZUREBLOB_ACCOUNT": EMULATED,
            "RCLONE_AZUREBLOB_KEY": KEY,
            "RCLONE_AZUREBLOB_ENDPOINT": container.endpoint,
        }
        yield Served(f"az://{EMULATED}/{container.name}", f":azureblob:{container.name}/", env)


@contextmanager
def _file(root: Path) -> Iterator[Served]:
    # Nothing is there to hold a copy against: ours makes a CRC-32C to keep, rclone would make two MD5 sums.
    yield Served(root.as_uri(), f"{root}/", copying=("--ignore-checksum",))


ORIGINS = (
    Origin("http", _http),
    Origin("https", _https),
    Origin("s3", _s3),
    Origin("webdav", _webdav),
    Origin("gcs", _gcs),
    Origin("azure", _azure),
    Origin("file", _file),
)
