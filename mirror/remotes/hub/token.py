"""The Hub's address and the user's token for it, where the Hub's own tools keep them.

The token is `$HF_TOKEN`, else what the file holds that `$HF_TOKEN_PATH` names, else ``token`` in
`$HF_HOME`, which is ``~/.cache/huggingface`` unless it is set. It goes to the address that is the user's own
choice (the public one, or `$HF_ENDPOINT`) and to no other: an address in the URL of a source has to be
given a token of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirror.errors import SetupError
from mirror.remotes.options import Form, Option, Options

PUBLIC = "https://huggingface.co"

ENDPOINT = Option("endpoint", f"address of another Hub than {PUBLIC}", Form.URL)
TOKEN = Option("token", "token for the Hub; without it, the one of the Hub's own tools", secret=True)


def endpoint(options: Options, environ: Mapping[str, str]) -> str:
    """Return the Hub's address, without a slash at its end.

    Raises:
        SetupError: HF_ENDPOINT is none.
    """
    return options.get("endpoint") or _users_own(environ)


def _users_own(environ: Mapping[str, str]) -> str:
    if not (named := environ.get("HF_ENDPOINT")):
        return PUBLIC
    try:
        return ENDPOINT.normal(named)
    except ValueError as exc:
        raise SetupError(f"HF_ENDPOINT: {exc}") from None


def token(options: Options, environ: Mapping[str, str]) -> str | None:
    """Return the token to show the Hub; None: there is none.

    Raises:
        SetupError: there is one that cannot be used; it is not shown.
    """
    found = options.get("token")
    if found is None and endpoint(options, environ) == _users_own(environ):
        found = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or _kept(environ)
    found = (found or "").strip()
    if not found.isascii() or not found.isprintable() or " " in found:
        raise SetupError("the token for the Hub has characters that no token has; correct it")
    return found or None


def _kept(environ: Mapping[str, str]) -> str | None:
    named = environ.get("HF_TOKEN_PATH")
    if named and not named.startswith(("/", "~")):
        raise SetupError(f"{named}: HF_TOKEN_PATH is to be a whole path, from the / on")
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    try:
        file = Path(named or f"{home}/token").expanduser()
        return file.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, RuntimeError) as exc:
        if not named and isinstance(exc, PermissionError | NotADirectoryError | RuntimeError):
            return None  # a home that is not ours to read, or none at all, has no token for us
        raise SetupError(f"{named or home + '/token'}: cannot be read; correct it or set HF_TOKEN") from exc
