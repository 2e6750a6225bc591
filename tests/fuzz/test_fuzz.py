"""Whatever an origin sends is an answer that can be believed or one of our errors: a share of `make fuzz`."""

from __future__ import annotations

import logging

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets

INPUTS = 20_000

KINDS = st.sampled_from(["text/html", "application/json", "text/xml", ""])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_thousand_inputs_are_borne(seed: int) -> None:
    """Listings, headers and whole answers, nearly right; `make fuzz` runs a million of them."""
    targets.run(INPUTS // 2, seed)


@given(body=st.binary(max_size=300), kind=KINDS)
@example(body=b'[{"name":"a","type":"file","size":' + b"9" * 5000 + b"}]", kind="application/json")
@example(body=b"<title>Index of /</title><a href='http://[/'>x</a>", kind="text/html")
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_listing_or_none(body: bytes, kind: str) -> None:
    """Also bytes that have nothing to do with one."""
    targets.listing(body, kind)


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
@settings(max_examples=500, deadline=None)
async def test_any_bytes_are_an_answer_or_none(data: bytes, cut: int) -> None:
    """Behind a status line too, so that more than the first line is looked at."""
    await targets.answer(data, cut)
    await targets.answer(b"HTTP/1.1 200 OK\r\n" + data, cut)
