"""What an s3 source means, what is cached under which name, and where its requests go."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.errors import SetupError, UsageError
from mirror.remotes import How, canonical, key, open_remote
from mirror.remotes.s3 import aws
from mirror.remotes.s3.endpoints import site
from mirror.remotes.s3.url import Place, place


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("S3://bucket/", "s3://bucket/"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket/a/b/", "s3://bucket/a/b/"),
        ("s3://bucket//a/", "s3://bucket/a/"),
        ("s3://bucket/a%20b/é%2B+/", "s3://bucket/a%20b/%C3%A9%2B%2B/"),
        ("s3://Old_Bucket.name/x", "s3://Old_Bucket.name/x"),
        ("s3://bucket/?region=eu-west-1", "s3://bucket/?region=eu-west-1"),
        ("s3://bucket/?style=path&anonymous", "s3://bucket/?anonymous=true&style=path"),
    ],
)
def test_one_spelling(source: str, expected: str) -> None:
    assert canonical(source) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("s3:bucket/x", "s3://BUCKET/PREFIX/"),
        ("s3://", "no bucket"),
        ("s3:///x", "no bucket"),
        ("s3://AKIA:secret@bucket/x", "~/.aws/credentials"),
        ("s3://secret@bucket/x", "~/.aws/credentials"),
        ("s3://bucket:9000/x", "endpoint"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "alias"),
        ("s3://b/x", "name of a bucket"),
        ("s3://bu..cket/x", "name of a bucket"),
        ("s3://bucket--use1-az4--x-s3/x", "directory buckets"),
        ("s3://bucket/a b/", "%20"),
        ("s3://bucket/a#b/", "%23"),
        ("s3://bucket/a//b/", "prefix"),
        ("s3://bucket/../b/", "prefix"),
        ("s3://bucket/?style=dns", "path or virtual"),
        ("s3://bucket/?secret-key=secret", "no option"),
    ],
)
def test_refused_in_one_line(source: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        canonical(source)
    line = str(caught.value)
    assert says in line
    assert "\n" not in line
    assert "=secret" not in line
    assert ":secret" not in line


def test_a_prefix_is_a_folder_or_a_file() -> None:
    assert place("s3://bucket/") == Place("bucket", "", folder=True)
    assert place("s3://bucket/a%20b/c/") == Place("bucket", "a b/c", folder=True)
    assert place("s3://bucket/a") == Place("bucket", "a", folder=False)


def test_two_endpoints_are_two_trees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wherever the endpoint is set; nothing else makes another tree."""
    plain = "s3://bucket/data/"
    assert key(f"{plain}?region=eu-west-1&style=path&anonymous=true&requester-pays=true") == plain
    named = "s3://bucket/data/?endpoint=http%3A%2F%2F127.0.0.1%3A9000"
    assert key(f"{plain}?endpoint=HTTP://127.0.0.1:9000/&region=eu-west-1") == named
    assert key(named) == named

    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text(
        "[default]\nendpoint_url = http://127.0.0.1:1\n"
        "[profile mine]\nservices = local\nregion = eu-central-1\n"
        "[services local]\ns3 =\n    endpoint_url = http://127.0.0.1:9000\n"
        "[profile none]\nignore_configured_endpoint_urls = true\nendpoint_url = http://127.0.0.1:9000\n"
    )
    assert key(plain) == "s3://bucket/data/?endpoint=http%3A%2F%2F127.0.0.1%3A1"
    assert key(f"{plain}?profile=mine") == named
    assert key(f"{plain}?profile=none") == plain
    assert open_remote(f"{plain}?profile=mine").url == named
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert key(plain) == named
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9001")
    assert key(plain) == named.replace("9000", "9001")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert key(plain) == plain
    assert key(named) == named


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:9000",
        "ftp://host",
        "https://user:hunter2@host",
        "https://host/?a=b",
        "https://host:0",
        "https://",
    ],
)
def test_what_is_no_endpoint(endpoint: str) -> None:
    with pytest.raises(UsageError, match="endpoint") as caught:
        key(f"s3://bucket/?endpoint={endpoint.replace('?', '%3F')}")
    assert "hunter2" not in str(caught.value)


def test_what_is_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region becomes part of a host name."""
    with pytest.raises(UsageError, match="region"):
        open_remote("s3://bucket/?region=evil.example/")
    monkeypatch.setenv("AWS_REGION", "evil.example#")
    with pytest.raises(UsageError, match="AWS_REGION"):
        open_remote("s3://bucket/")


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(SetupError, match="nobody"):
        open_remote("s3://bucket/?profile=nobody")


def test_a_config_file_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("no = section")
    with pytest.raises(SetupError, match="correct it"):
        open_remote("s3://bucket/")


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "style", "expected"),
    [
        ("bucket", "us-east-1", None, None, "https://bucket.s3.us-east-1.amazonaws.com/a%20b"),
        ("bucket", "cn-north-1", None, None, "https://bucket.s3.cn-north-1.amazonaws.com.cn/a%20b"),
        ("bucket", "eu-west-1", None, "path", "https://s3.eu-west-1.amazonaws.com/bucket/a%20b"),
        ("with.dots", "eu-west-1", None, None, "https://s3.eu-west-1.amazonaws.com/with.dots/a%20b"),
        ("Old_Bucket", "us-east-1", None, None, "https://s3.us-east-1.amazonaws.com/Old_Bucket/a%20b"),
        ("bucket", "x", "http://127.0.0.1:9000", None, "http://127.0.0.1:9000/bucket/a%20b"),
        ("bucket", "x", "https://host/s3", None, "https://host/s3/bucket/a%20b"),
        ("bucket", "x", "https://host/s3", "virtual", "https://bucket.host/s3/a%20b"),
        ("bucket", "x", "https://host:8443", "virtual", "https://bucket.host:8443/a%20b"),
    ],
)
def test_where_requests_go(
    bucket: str, region: str, endpoint: str | None, style: str | None, expected: str
) -> None:
    """Before Amazon's host, where its certificate covers that; into the path anywhere else."""
    where = site(bucket, region=region, endpoint=endpoint, style=style, suffix=aws.suffix)
    assert f"{str(where.origin).rstrip('/')}{where.object('a b')}" == expected
    assert where.listing("x=y").startswith("/")


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "[::1]:9000"])
def test_an_address_has_no_names_before_it(host: str) -> None:
    with pytest.raises(UsageError, match="style"):
        open_remote(f"s3://bucket/?style=virtual&endpoint=http://{host}", How())
