"""Options of a source: declared by its kind, set in its URL, in the environment or in a file.

``s3://bucket/data?region=eu-west-1`` sets one in the URL, ``MIRROR_S3_REGION=eu-west-1`` in the
environment, and `mirror.remotes.settings` reads the file. The URL goes before the environment, and the
environment before the file. A secret may stand in the last two only: a URL is seen by everybody who
lists processes, reads a log, or looks at what is mounted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, quote, urlsplit

from mirror.errors import MirrorError, SetupError, UsageError

SHOWN = 100
"""Most characters of a value in a message."""


class Form(Enum):
    """What an option's value looks like."""

    TEXT = "TEXT"
    FLAG = "true|false"
    NUMBER = "N"
    FILE = "FILE"
    """A whole path, for a mount does not run in the user's current folder; ``~`` is the home folder."""
    URL = "URL"
    """The http or https URL of a host, free of secrets; or one of the option's `choices`."""


_FLAGS = {
    **dict.fromkeys(("", "true", "1", "yes"), "true"),
    **dict.fromkeys(("false", "0", "no"), "false"),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a kind of source."""

    name: str
    """As in a URL's query and in the file; lower case, words joined by ``-``."""
    help: str
    """One line, for the manual and for messages."""
    form: Form = Form.TEXT
    choices: tuple[str, ...] = ()
    """The only values; none: any."""
    secret: bool = False
    """Never in a URL, never shown."""

    def normal(self, value: str) -> str:
        """Return the one spelling of a value.

        Raises:
            ValueError: it is none; ``str()`` says what to write instead, without the value.
        """
        if self.form is Form.FLAG:
            if (flag := _FLAGS.get(value.lower())) is None:
                raise ValueError("write true or false")
            return flag
        if not value or any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise ValueError("a value is one line of text, and not empty")
        if self.form is Form.NUMBER:
            if not (value.isascii() and value.isdigit() and len(value) < 16):
                raise ValueError("write a whole number")
            return str(int(value))
        if self.form is Form.FILE and not value.startswith(("/", "~")):
            raise ValueError("write the whole path, from the / on")
        if self.form is Form.URL:
            return value if value in self.choices else _host(value, self.choices)
        if self.choices and value not in self.choices:
            raise ValueError(f"write {' or '.join(self.choices)}")
        return value


def _host(value: str, choices: tuple[str, ...]) -> str:
    """Return ``http://host:port`` or the same with a path, in one spelling. Raises `ValueError`."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if "@" in parts.netloc:
        raise ValueError("a user and a password are no part of it: they have options of their own")
    usable = parts.scheme in ("http", "https") and parts.hostname and not {"?", "#"} & set(value)
    if not usable or any(char.isspace() for char in value):
        words = "".join(f" or {choice}" for choice in choices)
        raise ValueError(f"write http://HOST:PORT or https://HOST:PORT{words}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


class Options(Mapping[str, str]):
    """The options that are set for a source: every value in its one spelling."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # A value may be a secret, and a traceback may show this object.
        return f"Options({', '.join(self._values)})"

    def flag(self, name: str) -> bool:
        """Whether a flag is set and true."""
        return self._values.get(name) == "true"

    def file(self, name: str) -> str | None:
        """The path that an option names, ``~`` expanded; None when it is not set."""
        value = self._values.get(name)
        return None if value is None else os.path.expanduser(value)  # noqa: PTH111 - a plain string for others


def split(source: str) -> tuple[str, str]:
    """Divide a source into its URL and its query, without the ``?``."""
    url, _, query = source.partition("?")
    return url, query


def in_query(known: Sequence[Option], url: str, query: str) -> dict[str, str]:
    """Read the options in a source's query.

    Raises:
        UsageError: one that is not known, not well formed, set twice, or a secret; no value is shown.
    """
    by_name = {option.name: option for option in known}
    values: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=64) if query else []
    except ValueError as exc:
        raise UsageError(f"{url}?…: the query is not NAME=VALUE&NAME=VALUE") from exc
    for name, value in pairs:
        option = by_name.get(name)
        if option is None:
            public = ", ".join(option.name for option in known if not option.secret)
            raise UsageError(
                f"{url}?…: {name[:SHOWN]!a} in the query is no option of this kind of source; "
                + (f"there are: {public}" if public else "it has none, leave out everything from the '?' on")
            )
        if option.secret:
            raise UsageError(
                f"{url}?…: {name} is a secret, and a URL is no place for one; put it into mirror.toml"
            )
        if name in values:
            raise UsageError(f"{url}?…: {name} is set twice")
        values[name] = _normal(option, value, f"{url}?…: {name}", UsageError)
    return values


def in_environment(known: Sequence[Option], scheme: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the options in the environment: ``MIRROR_SCHEME_NAME``, ``-`` and ``+`` written ``_``.

    Raises:
        UsageError: a value that is not well formed.
    """
    values: dict[str, str] = {}
    for option in known:
        variable = f"MIRROR_{scheme}_{option.name}".upper().replace("-", "_").replace("+", "_")
        if variable in environ:
            values[option.name] = _normal(option, environ[variable], variable, UsageError)
    return values


def in_table(known: Sequence[Option], table: Mapping[str, object], where: str) -> dict[str, str]:
    """Read the options of one table of a settings file.

    Raises:
        SetupError: one that is not known or not well formed.
    """
    by_name = {option.name: option for option in known}
    values: dict[str, str] = {}
    for name, value in table.items():
        option = by_name.get(name)
        if option is None:
            raise SetupError(
                f"{where}: {name!a} is no option of this kind of source; "
                f"there are: {', '.join(by_name) or 'none'}"
            )
        if not isinstance(value, str | bool | int):
            raise SetupError(f"{where}: {name} is to be text, a number, true or false")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        values[name] = _normal(option, text, f"{where}: {name}", SetupError)
    return values


def _normal(option: Option, value: str, where: str, error: type[MirrorError]) -> str:
    try:
        return option.normal(value)
    except ValueError as exc:
        raise error(f"{where}: {exc}") from None


def to_query(values: Mapping[str, str]) -> str:
    """Write options as the end of a URL, ``?`` included; nothing when there are none."""
    pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(values.items()))
    return f"?{pairs}" if pairs else ""
