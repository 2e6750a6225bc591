"""Credentials: netrc, for the host of the source, and sent to that origin only.

The file is `$NETRC` or ``~/.netrc``, read once when a source is opened. Its ``default`` entry is not
used: a password is for a host that somebody named.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path

import httpx

from mirror.errors import SetupError
from mirror.http.auth import Auth, basic


def netrc_auth(url: httpx.URL) -> Auth | None:
    """Return the credentials for a source, or None when there are none for its host.

    Raises:
        SetupError: the file is there but cannot be read. The message shows none of its content.
    """
    if (entry := netrc_entry(url)) is None:
        return None
    return basic(*entry)


def netrc_entry(url: httpx.URL) -> tuple[str, str] | None:
    """Return user and password for the host of a URL, or None. Raises as `netrc_auth`."""
    named = os.environ.get("NETRC")
    path = Path(named) if named else Path("~/.netrc").expanduser()
    try:
        known = netrc.netrc(str(path))
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as exc:
        raise SetupError(f"{path}, line {exc.lineno}: not in the form of a netrc file; correct it") from exc
    except (OSError, UnicodeDecodeError) as exc:
        if not named and isinstance(exc, PermissionError | NotADirectoryError):
            return None  # a home that is not ours to read has no credentials for us
        raise SetupError(f"{path}: cannot be read ({exc}); correct it or unset NETRC") from exc
    if (entry := known.hosts.get(url.host)) is None:
        return None
    user, _, password = entry
    return user, password
