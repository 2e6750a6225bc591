"""Secrets are where the user put them, and nowhere else.

Each test plants words that occur nowhere else, mounts, reads, fails, at the most verbose level, and then
looks for them, and for the forms that they take on the way, wherever others could.
"""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import mountinfo
from tests.support.certificates import Authority
from tests.support.command import Outcome
from tests.support.data import noise, put
from tests.support.failures import errno_of_reading
from tests.support.hub import hub
from tests.support.mounts import Mount, mounted, prepared
from tests.support.proxies import accounts, proxy
from tests.support.servers import Server, nginx
from tests.support.waiting import eventually
from tests.support.webdav import wsgidav

PASSWORD = "canary-passw0rd/one"
TOKEN = "hf_canaryT0kenTwo"
KEY = "canary key three"
PROXY = "canary:proxy:four"
NETRC = "canary-netrc-five"
WRONG = "canary-wr0ng-six"


def _forms(secret: str, *users: str) -> set[bytes]:
    """A secret as it is, quoted, and as basic authentication has it."""
    basic = {base64.b64encode(f"{user}:{secret}".encode()).rstrip(b"=")[:-1] for user in users}
    return {secret.encode(), quote(secret).encode(), quote(secret, safe="").encode()} | basic


CANARIES = {
    form
    for secret in (PASSWORD, TOKEN, KEY, PROXY, NETRC, WRONG)
    for form in _forms(secret, "someone", "between", "other")
}


@dataclass
class Watch:
    """Everything that was said, and where to look."""

    home: Path
    """Of the user: its files hold the secrets."""
    env: dict[str, str] = field(default_factory=dict)
    said: list[Outcome] = field(default_factory=list)

    def settings(self, text: str) -> None:
        (self.home / "mirror.toml").write_text(text)
        (self.home / "mirror.toml").chmod(0o600)

    def run(self, mount: Mount, *arguments: str | Path) -> Outcome:
        outcome = mount.mirror(*arguments)
        self.said.append(outcome)
        return outcome

    def look(self, mount: Mount) -> None:
        """Assert that none of the secrets is anywhere."""
        found = [
            (where, form) for where, content in self._places(mount) for form in CANARIES if form in content
        ]
        assert not found

    def _places(self, mount: Mount) -> Iterator[tuple[str, bytes]]:
        for outcome in [*self.said, *([mount.said] if mount.said else [])]:
            yield " ".join(outcome.argv), f"{outcome.out}{outcome.err}{outcome.argv}".encode()
        yield "the log", mount.log.encode()
        yield "the mount table", mountinfo.OWN.read_bytes()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                yield f"argv of {process.name}", (process / "cmdline").read_bytes().replace(b"\0", b" ")
                yield f"threads of {process.name}", (process / "comm").read_bytes()
            except OSError:
                continue  # it ended while we looked
        for folder in (mount.cache, mount.path, mount.runtime):
            for path in [folder, *folder.rglob("*")]:
                for name in _attributes(path):
                    yield f"{name} of {path}", os.getxattr(path, name, follow_symlinks=False)
                if path.is_file() and folder != mount.path:
                    yield str(path), path.read_bytes()
                yield "a name", str(path).encode()


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return []  # the mount has none
        raise


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login other password {NETRC}\n")
    (home / ".netrc").chmod(0o600)
    env = {"HOME": str(home), "MIRROR_DEBUG": "1", "MIRROR_CONFIG": str(home / "mirror.toml")}
    (home / "mirror.toml").touch(0o600)
    return Watch(home, env)


def use(watch: Watch, mount: Mount, name: str) -> None:
    """Everything that a user would do with a mount."""
    (mount.path / name).read_bytes()
    os.close(mount.open_passthrough(name))
    source = mount.source
    for arguments in (
        ["status", mount.path, "--json"],
        ["ls", source, "--json"],
        ["pin", source, name],
        ["verify", source, "--json"],
        ["fsck", "--json"],
    ):
        watch.run(mount, *arguments).ok()


@contextmanager
def a_web_server(watch: Watch, folder: Path, tmp_path: Path, *, http2: bool) -> Iterator[tuple[Server, str]]:
    """One that asks for a certificate and a password, behind a proxy that asks for another."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client")
    encrypted = authority.encrypted(key, KEY)
    basic = base64.b64encode(f"someone:{PASSWORD}".encode()).decode()
    tls = authority.issue("server")
    conf = (
        f"ssl_client_certificate {authority.file}; ssl_verify_client on;"
        f'if ($http_authorization != "Basic {basic}") {{ return 401; }}'
    )
    with (
        nginx(folder, autoindex="json", tls=tls, http2=http2, extra_conf=conf) as origin,
        proxy(tmp_path, file=accounts(tmp_path, "between", PROXY)) as between,
    ):
        watch.settings(
            f'["{origin.url}"]\nuser = "someone"\npassword = "{PASSWORD}"\nca = "{authority.file}"\n'
            f'client-cert = "{certificate}"\nclient-key = "{encrypted}"\n'
            f'proxy = "{between.url}"\nproxy-user = "between"\n'
        )
        watch.env["MIRROR_HTTPS_PROXY_PASSWORD"] = PROXY
        watch.env["MIRROR_HTTPS_CLIENT_KEY_PASSWORD"] = KEY
        yield origin, f"{origin.url}?http2=true" if http2 else origin.url


@pytest.mark.parametrize("http2", [False, True])
def test_of_a_web_server(http2: bool, watch: Watch, folder: Path, tmp_path: Path) -> None:
    """Password, passphrase and the proxy's password, in settings and environment."""
    put(folder, "one.bin", noise("one", 3_000_000))
    put(folder, "two.bin", noise("two", 3_000_000))
    with (
        a_web_server(watch, folder, tmp_path, http2=http2) as (origin, source),
        mounted(source, env=watch.env, args=["--deadline", "3", "--ttl", "0"]) as mount,
    ):
        assert (mount.path / "one.bin").read_bytes() == noise("one", 3_000_000)
        use(watch, mount, "one.bin")
        put(folder, "three.bin", noise("three", 1000))
        eventually((mount.path / "three.bin").exists, "the new file is listed")
        origin.stop()
        assert errno_of_reading(mount.path / "three.bin") == "EIO"
        mount.kill_worker()
        assert (mount.path / "one.bin").read_bytes() == noise("one", 3_000_000)
        watch.run(mount, "warm", source, "--deadline", "2")
        watch.look(mount)


WRONG_SECRETS = [
    ({"MIRROR_HTTPS_PASSWORD": WRONG}, "401"),
    ({"MIRROR_HTTPS_PROXY_PASSWORD": WRONG}, "proxy-user"),
    ({"MIRROR_HTTPS_CLIENT_KEY_PASSWORD": WRONG}, "cannot be decrypted"),
    ({"MIRROR_HTTPS_TOKEN": WRONG}, "two ways"),
    ({"MIRROR_HTTPS_PROXY": f"http://me:{WRONG}@127.0.0.1:1"}, "options of their own"),
    ({"MIRROR_HTTPS_TOKEN": f"{WRONG}\n"}, "one line"),
]


def test_of_what_fails(watch: Watch, folder: Path, tmp_path: Path) -> None:
    """What is wrong about a secret is said without it, in one line and in its traceback."""
    put(folder, "one.bin", b"x")
    with a_web_server(watch, folder, tmp_path, http2=False) as (_, source):
        for wrong, words in WRONG_SECRETS:
            with prepared(source, env={**watch.env, **wrong}, args=["--deadline", "3"]) as mount:
                refused = mount.mount() if wrong is WRONG_SECRETS[0][0] else watch.run(mount, "warm", source)
                assert refused.code != 0
                assert words in refused.lines[-1]
                watch.look(mount)


def test_of_the_hub(watch: Watch) -> None:
    """The token of the Hub's own tools, and the signed links of its store."""
    files = {"large.bin": noise("large", 3_000_000), "small.txt": b"small"}
    with hub(files, token=TOKEN) as server:
        watch.env |= {"HF_TOKEN": TOKEN, "HF_ENDPOINT": server.endpoint}
        with mounted(
            "hf://datasets/org/name", env=watch.env, args=["--deadline", "3", "--ttl", "0"]
        ) as mount:
            assert (mount.path / "small.txt").read_bytes() == b"small"
            use(watch, mount, "large.bin")
            server.push({**files, "new.bin": noise("new", 5000)})
            eventually((mount.path / "new.bin").exists, "the new commit is listed")
            server.token = "another"
            assert errno_of_reading(mount.path / "new.bin") == "EACCES"
            refused = watch.run(mount, "warm", mount.source)
            assert refused.code != 0
            watch.look(mount)
            seen = b"".join(content for _, content in watch._places(mount))
            assert not [link for link in server.links if link.encode() in seen]


def test_of_a_webdav_server(watch: Watch, folder: Path) -> None:
    """The password in netrc."""
    put(folder, "one.bin", noise("one", 3_000_000))
    with (
        wsgidav(folder, user="other", password=NETRC) as server,
        mounted(server.url.replace("http", "webdav", 1), env=watch.env) as mount,
    ):
        use(watch, mount, "one.bin")
        server.stop()
        watch.look(mount)


def test_the_canaries_would_be_found(watch: Watch, folder: Path, origin: Server) -> None:
    """The look finds a secret that is where it should not be, in each of its forms."""
    put(folder, "one.bin", b"x")
    with mounted(origin.url, env=watch.env) as mount:
        watch.look(mount)
        for form in CANARIES:
            (mount.home / "mount.log").write_bytes(b"so " + form + b"\n")
            with pytest.raises(AssertionError):
                watch.look(mount)
        (mount.home / "mount.log").write_bytes(b"")
