"""mirror.toml: where it is looked for, which tables hold, what goes first, and who may read secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror import remotes
from mirror.errors import SetupError
from mirror.remotes import open_remote, settings
from mirror.remotes.options import Option

KNOWN = (Option("region", "where"), Option("user", "who"), Option("token", "who asks", secret=True))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("MIRROR_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "SYSTEM", tmp_path / "etc")


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def found(url: str, **environ: str) -> dict[str, str]:
    return settings.for_source(url, KNOWN, environ, remotes.KINDS)


# -- where it is -----------------------------------------------------------------------------


def test_the_first_that_is_there_counts(tmp_path: Path) -> None:
    """MIRROR_CONFIG, then XDG_CONFIG_HOME or ~/.config, then /etc/mirror; never two of them."""
    assert settings.path({}) is None
    system = write(tmp_path / "etc" / "mirror.toml", "")
    assert settings.path({}) == system
    home = write(tmp_path / ".config" / "mirror" / "mirror.toml", "")
    assert settings.path({}) == home
    other = write(tmp_path / "xdg" / "mirror" / "mirror.toml", "")
    assert settings.path({"XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == other
    assert settings.path({"XDG_CONFIG_HOME": str(tmp_path / "none")}) == system
    named = write(tmp_path / "named", "")
    assert settings.path({"MIRROR_CONFIG": str(named), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == named


def test_never_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be anybody's, and a mount runs in another one."""
    for place in ("mirror.toml", "mirror/mirror.toml"):
        write(tmp_path / "here" / place, '["https://h"]\nuser = "x"\n')
    monkeypatch.chdir(tmp_path / "here")
    assert found("https://h/") == {}
    assert found("https://h/", XDG_CONFIG_HOME=".") == {}
    with pytest.raises(SetupError, match="whole path"):
        found("https://h/", MIRROR_CONFIG="mirror.toml")


def test_the_systems_may_be_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may not read it has none; his own file has to be readable."""
    write(tmp_path / "etc" / "mirror.toml", '["https://h"]\nuser = "x"\n')
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert found("https://h/") == {}


def test_a_named_one_has_to_be_there(tmp_path: Path) -> None:
    for named in (tmp_path / "absent", tmp_path):
        with pytest.raises(SetupError, match="MIRROR_CONFIG"):
            found("https://h/", MIRROR_CONFIG=str(named))


# -- what it says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3cret", "TOML"),
        ('["https://h"]\ntoken = "s3cret', "TOML"),
        ('token = "s3cret"', "outside of a table"),
        ('["h"]\ntoken = "s3cret"', "named as sources begin"),
        ('[https.h]\ntoken = "s3cret"', "named as sources begin"),
        ('["htps://h"]\ntoken = "s3cret"', "no source begins with htps://"),
        ('["https://H/x"]\ntoken = "s3cret"', "small letters"),
        ('["https://h:443/"]\ntoken = "s3cret"', "usual port"),
        ('["https://h"]\ncolour = "s3cret"', "colour"),
        ('["https://h"]\nuser = ["s3cret"]', "user"),
        ('["https://h"]\n[["https://h".user]]\nx = "s3cret"', "user"),
    ],
)
def test_what_cannot_be_read(text: str, words: str, tmp_path: Path) -> None:
    """One line that names the file and shows nothing of what is in it."""
    file = write(tmp_path / "named", text)
    with pytest.raises(SetupError) as caught:
        found("https://h/", MIRROR_CONFIG=str(file))
    line = str(caught.value)
    assert str(file) in line
    assert words in line
    assert "s3cret" not in line
    assert "\n" not in line


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "named"
    file.write_bytes(b"\xff")
    with pytest.raises(SetupError, match="cannot be read"):
        found("https://h/", MIRROR_CONFIG=str(file))


COVERS = [
    ("https://h", "https://h/", True),
    ("https://h/", "https://h/a/b", True),
    ("https://h/a", "https://h/a", True),
    ("https://h/a/", "https://h/a", True),
    ("https://h/a", "https://h/a/b", True),
    ("https://h/a", "https://h/ab", False),
    ("https://h/a", "https://h/a@b", False),
    ("https://h", "https://h.evil/", False),
    ("https://h", "https://h:81/", False),
    ("https://h", "http://h/", False),
    ("https://", "https://h/", True),
    ("hf://datasets/o", "hf://datasets/o/n@v1/p", True),
    ("hf://datasets/o/n", "hf://datasets/o/n@v1/p", True),
    ("hf://datasets/o/n@v1", "hf://datasets/o/n", False),
    ("hf://datasets/o/n", "hf://datasets/o/n2", False),
]


@pytest.mark.parametrize(("prefix", "url", "covered"), COVERS)
def test_which_tables_hold(prefix: str, url: str, covered: bool, tmp_path: Path) -> None:
    """Those that a source begins with, up to the end of a name."""
    file = write(tmp_path / "named", f'["{prefix}"]\nuser = "x"\n')
    assert found(url, MIRROR_CONFIG=str(file)) == ({"user": "x"} if covered else {})


def test_the_longer_name_goes_first(tmp_path: Path) -> None:
    """Option by option, in whatever order the tables stand."""
    text = """
["https://h/a/b"]
region = "b"
["https://"]
region = "all"
user = "all"
token = "all"
["https://h/a/"]
region = "a"
user = "a"
["https://h/a/c"]
user = "c"
"""
    environ = {"MIRROR_CONFIG": str(write(tmp_path / "named", text))}
    assert found("https://h/a/b/x", **environ) == {"region": "b", "user": "a", "token": "all"}
    assert found("https://h/x", **environ) == {"region": "all", "user": "all", "token": "all"}


# -- who may read it -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o660, 0o777])
def test_secrets_that_others_may_read(mode: int, tmp_path: Path) -> None:
    """A file with a secret for this source belongs to its owner alone; without one it may be anybody's."""
    text = '["https://h"]\ntoken = "s3cret"\n["https://other"]\nuser = "x"\n'
    file = write(tmp_path / "named", text, mode)
    with pytest.raises(SetupError) as caught:
        found("https://h/", MIRROR_CONFIG=str(file))
    assert f"chmod 600 {file}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert found("https://other/", MIRROR_CONFIG=str(file)) == {"user": "x"}
    file.chmod(0o400)
    assert found("https://h/", MIRROR_CONFIG=str(file)) == {"token": "s3cret"}


# -- what goes first -------------------------------------------------------------------------


def test_the_url_before_the_environment_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '["https://h"]\nuser = "file"\nproxy-user = "file"\nca = "/file"\n'
    monkeypatch.setenv("MIRROR_CONFIG", str(write(tmp_path / "named", text)))
    monkeypatch.setenv("MIRROR_HTTPS_PROXY_USER", "environment")
    monkeypatch.setenv("MIRROR_HTTPS_CA", "/environment")
    monkeypatch.setenv("MIRROR_HTTP_USER", "of another kind")
    set_ = remotes._parse("https://h/?ca=/url").options()
    assert dict(set_) == {"user": "file", "proxy-user": "environment", "ca": "/url"}


async def test_what_it_says_reaches_the_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what cannot be used is told when a source is opened, before anything is sent."""
    file = write(tmp_path / "named", '["https://h"]\ntoken = "s3cret"\nuser = "u"\n')
    monkeypatch.setenv("MIRROR_CONFIG", str(file))
    with pytest.raises(Exception, match="two ways"):
        open_remote("https://h/")
    await open_remote("https://other/").aclose()
