"""What a user writes for durations, sizes and ``-o``, and what is said when it means nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.limits import Amount
from mirror.cli.values import MountOptions, amount, duration, limit, mount_options, size
from mirror.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        (".5", 0.5),
        ("500ms", 0.5),
        ("5m", 300),
        ("1h", 3600),
        ("2 d", 172800),
        ("1W", 604800),
        ("inf", math.inf),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1y", "abc", "1e3", "٣", "nan", "1 2"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write seconds"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64k", 65536),
        ("16M", 1 << 24),
        ("16MiB", 1 << 24),
        ("1.5G", 3 << 29),
        ("1T", 1 << 40),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "-1", "16X", "M", "1MB/s", "inf"])
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: write bytes"):
        size(text)


@given(st.integers(0, 1 << 50))
def test_plain_bytes_are_taken_as_they_are(count: int) -> None:
    if count < 1 << 53:
        assert size(str(count)) == count


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([], MountOptions()),
        (["allow_other,nodev", "nosuid"], MountOptions(kernel=("allow_other", "nodev", "nosuid"))),
        (["nodev,nodev"], MountOptions(kernel=("nodev",))),
        (["no_passthrough"], MountOptions(passthrough=False)),
        (["ttl=1h,open=wait"], MountOptions(settings={"ttl": "1h", "open": "wait"})),
        (["open-wait-size=1M"], MountOptions(settings={"open_wait_size": "1M"})),
        (["ttl=1", "ttl=2"], MountOptions(settings={"ttl": "2"})),
        ([r"cache=/a\,b"], MountOptions(settings={"cache": "/a,b"})),
        ([" , ,"], MountOptions()),
    ],
)
def test_options_are_comma_separated_and_may_be_repeated(lists: list[str], expected: MountOptions) -> None:
    assert mount_options(lists) == expected


@pytest.mark.parametrize("text", ["ttl=", "ttl", "allow_other,open"])
def test_a_setting_without_a_value_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="needs a value"):
        mount_options([text])


def test_what_is_no_setting_is_left_to_the_keeper() -> None:
    assert mount_options(["rw,tll=5,x-systemd.automount"]).kernel == ("rw", "tll=5", "x-systemd.automount")


@pytest.mark.parametrize(
    ("text", "stored"),
    [("4096", "4096"), ("1.5G", str(3 << 29)), ("20%", "20%"), (" 12.5 % ", "12.5%"), ("100%", "100%")],
)
def test_an_amount_is_a_size_or_a_share_of_the_file_system(text: str, stored: str) -> None:
    """What is stored is what the index reads again."""
    assert amount(text) == stored
    assert limit(text) == stored
    assert str(Amount.parse(stored)) == stored


def test_a_limit_may_be_none() -> None:
    assert limit("none") == limit("None") == "none"


@pytest.mark.parametrize("text", ["", "none", "-1", "5 percent", "101%", "-1%", "%", "5K%", "1e1%"])
def test_what_is_no_amount_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (amount|share): write"):
        amount(text)
