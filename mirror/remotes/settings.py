"""The settings file: options for sources that stand neither in a URL nor in the environment.

``mirror.toml`` is looked for at ``$MIRROR_CONFIG``, else in ``$XDG_CONFIG_HOME/mirror`` (that is
``~/.config/mirror``), else in ``/etc/mirror``; the first that is there counts. Never in the current
folder: that may be anybody's, and a file of options says where credentials go::

    ["s3://bucket"]
    region = "eu-west-1"

    ["https://data.example.org/private/"]
    token = "…"

A table holds for all sources that begin with its name, in the spelling that `mirror.remotes.canonical`
gives them and ended by a slash or not; where several do, the longer name goes first, option by option.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mirror.errors import SetupError
from mirror.remotes.options import Option, in_table

NAME = "mirror.toml"
SYSTEM = Path("/etc/mirror")
_PORTS = {"https": 443, "http": 80, "webdavs": 443, "webdav": 80}
"""The port that a host of such a source has unless it says another."""


def path(environ: Mapping[str, str]) -> Path | None:
    """Return the settings file that counts; None when there is none.

    Raises:
        SetupError: ``MIRROR_CONFIG`` names one that is not there, or depends on the current folder.
    """
    if named := environ.get("MIRROR_CONFIG"):
        if not Path(named).is_absolute():
            # A mount does not run in the user's current folder.
            raise SetupError(f"{named}: MIRROR_CONFIG is to be a whole path, from the / on")
        if not Path(named).is_file():
            raise SetupError(f"{named}: there is no such file; correct MIRROR_CONFIG or unset it")
        return Path(named)
    for folder in (_own_folder(environ), SYSTEM):
        try:
            if folder is not None and (folder / NAME).is_file():
                # The system's may be for root alone.
                if folder == SYSTEM and not os.access(folder / NAME, os.R_OK):
                    return None
                return folder / NAME
        except PermissionError:
            continue  # a home that is not ours to read has no settings for us
    return None


def _own_folder(environ: Mapping[str, str]) -> Path | None:
    home = environ.get("XDG_CONFIG_HOME", "")
    if Path(home).is_absolute():  # else it is to be ignored (XDG Base Directory Specification)
        return Path(home) / "mirror"
    try:
        return Path("~/.config/mirror").expanduser()
    except RuntimeError:
        return None  # a user without a home


def read(file: Path, schemes: Collection[str]) -> dict[str, dict[str, object]]:
    """Return the tables of a settings file, each of which begins with one of the schemes.

    Raises:
        SetupError: it cannot be read, or holds a table that no source could begin with; none of its
            content is shown.
    """
    try:
        with file.open("rb") as opened:
            content = tomllib.load(opened)
    except tomllib.TOMLDecodeError as exc:
        # Its message tells where, and a character at most.
        raise SetupError(f"{file}: not in the form of a TOML file: {exc}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{file}: cannot be read ({exc})") from exc
    for name, table in content.items():
        if not isinstance(table, dict):
            raise SetupError(f'{file}: {name} stands outside of a table; write ["SOURCE"] above it')
        if "://" not in name:
            raise SetupError(
                f'{file}, ["{name}"]: a table is named as sources begin, as in ["https://HOST/"]'
            )
        if (why := _never_meant(name, schemes)) is not None:
            raise SetupError(f'{file}, ["{name}"]: {why}')
    return content


def _never_meant(name: str, schemes: Collection[str]) -> str | None:
    """Why no source in its one spelling begins with this; None: one may."""
    scheme, _, rest = name.partition("://")
    if scheme not in schemes:
        return f"no source begins with {scheme}://; there are: {', '.join(schemes)}"
    host = rest.partition("/")[0]
    port = _PORTS.get(scheme.removeprefix("manifest+"))
    if port is not None and host != host.lower():
        return "a source has its host in small letters"
    if port is not None and host.endswith(f":{port}"):
        return f"a source leaves out the usual port, :{port}"
    return None


def for_source(
    url: str, known: Sequence[Option], environ: Mapping[str, str], schemes: Collection[str]
) -> dict[str, str]:
    """Return the options that the settings file has for a source (canonical, without a query).

    Args:
        url: the source.
        known: the options of its kind.
        environ: the environment.
        schemes: those of all kinds of sources.

    Raises:
        SetupError: the file, or what it says of this source, cannot be used; or it holds a secret and
            others may read it.
    """
    file = path(environ)
    if file is None:
        return {}
    tables = read(file, schemes)
    values: dict[str, str] = {}
    for prefix in sorted(tables, key=len):
        if _covers(prefix, url):
            values |= in_table(known, tables[prefix], f'{file}, ["{prefix}"]')
    secrets = {option.name for option in known if option.secret}
    if secrets & set(values):
        _refuse_shared(file)
    return values


def _covers(prefix: str, url: str) -> bool:
    if prefix.endswith("://"):
        return url.startswith(prefix)
    prefix = prefix.rstrip("/")
    if not url.startswith(prefix):
        return False
    rest = url.removeprefix(prefix)
    # A repository's name holds for each of its revisions.
    return not rest or rest[0] == "/" or (rest[0] == "@" and url.startswith("hf://"))


def _refuse_shared(file: Path) -> None:
    status = os.stat(file)  # noqa: PTH116 - one call for owner and mode
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SetupError(f"{file} holds secrets and others may read it: chmod 600 {file}")
