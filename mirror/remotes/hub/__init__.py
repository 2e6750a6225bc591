"""Repositories of the Hugging Face Hub: data sets, models, spaces.

url      what a source string means
token    the Hub's address, and the user's token for it
dialect  what the Hub says of files and failures
tree     rows of its API, as entries
remote   the protocol of `mirror.remotes.base`, over `mirror.http`
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import httpx

from mirror.http import access
from mirror.http.auth import bearer
from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.hub import token as tokens
from mirror.remotes.hub.remote import HubRemote
from mirror.remotes.hub.url import canonical, parse
from mirror.remotes.options import Form, Option, Options, to_query

__all__ = ["OPTIONS", "HubRemote", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = (
    tokens.ENDPOINT,
    tokens.TOKEN,
    Option("times", "show the date of each file's last commit, at 20 times the requests", Form.FLAG),
    *access.CONNECTION,
)


def key(url: str, options: Options) -> str:
    """Return the source, with the Hub's address where it is not the public one."""
    endpoint = tokens.endpoint(options, os.environ)
    return url if endpoint == tokens.PUBLIC else url + to_query({"endpoint": endpoint})


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`."""
    endpoint = tokens.endpoint(how.options, os.environ)
    token = tokens.token(how.options, os.environ)
    return HubRemote(
        key(url, how.options),
        parse(url),
        endpoint,
        access.open_client(httpx.URL(endpoint), how),
        None if token is None else bearer(token),
        times=how.options.flag("times"),
    )
