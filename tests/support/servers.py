"""Real web servers over a folder, each on a free loopback port: what the remotes are tested against.

Every starter is a context manager that yields a running :class:`Server`::

    with nginx(folder) as server:
        httpx.get(server.url + "file.bin")
        assert [r.range for r in server.requests()] == [None]

A server is one process, started through ``setpriv --pdeathsig`` so that it dies with the test process
however that ends, and is ended by its pid. Its configuration and logs live in a temporary folder of
their own. As root, Apache (which refuses to serve as root) runs as ``nobody`` with the one capability
it needs to read any folder; every other server runs as whoever runs the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

START_SECONDS = 20.0
"""How long a server may take until it answers, or its log until it shows a request."""

UPLOAD_SECONDS = 60.0
"""How long an emulator of an object store may take to store what it was sent.

Large bodies go out of an `io.BytesIO`, in pieces: of bytes in one piece httpx copies all that is left after
each call of the kernel, a minute for 1 GiB.
"""

SYNC_PREFIX = "/.log-sync-"
"""Requests for such names are our own: they show that all earlier ones are in the log."""

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Request:
    """One finished request, as the server's own access log has it."""

    method: str
    uri: str
    """Path and query exactly as sent."""
    status: int
    range: str | None = None
    """The Range header, e.g. ``bytes=0-99``; None when there was none or the log does not say."""
    sent: int = 0
    """Bytes of body that were sent, where the log says so."""


class ServerError(RuntimeError):
    """A server did not start; the message holds the end of its error log."""


class Server:
    """One server process over one folder."""

    def __init__(
        self,
        root: Path,
        home: Path,
        configure: Callable[[Path, int], Sequence[str]],
        parse: Callable[[str], Request | None],
        *,
        scheme: str = "http",
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        self.root = root
        self._home = home
        self._configure = configure
        self._parse = parse
        self._scheme = scheme
        self._host = host
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._syncs = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where the folder is served, with a trailing slash; stays the same over a restart."""
        return f"{self._scheme}://{self._host}:{self.port}/"

    @property
    def pid(self) -> int:
        """The server's process (its only one)."""
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def start(self) -> None:
        """Start, on the same port as before if there was one, and wait until it accepts."""
        # Another process may take a free port before the server does: then look for another.
        for _ in range(1 if self.port else 5):
            port = self.port or _free_port()
            if self._start_on(port):
                self.port = port
                return
        raise ServerError(f"{self._configure.__qualname__}: {self.log_tail()}")

    def _start_on(self, port: int) -> bool:
        argv = [*_PREFIX, *self._prefix, *self._configure(self._home, port)]
        env = {**os.environ, "HOME": str(self._home), "XDG_DATA_HOME": str(self._home)}
        env["XDG_CONFIG_HOME"] = str(self._home)
        with (self._home / "stderr.log").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if process.poll() is not None:
                return False
            try:
                self._knock(port)
            except OSError:
                time.sleep(0.01)
                continue
            if process.poll() is not None:  # somebody else's server answered
                return False
            self._process = process
            return True
        _end(process)
        return False

    def _knock(self, port: int) -> None:
        """See whether the server accepts. Raises OSError."""
        if self._prefix:  # somewhere that this process cannot reach
            done = subprocess.run(
                [*self._prefix, "curl", "-sS", "-o", os.devnull, f"http://{self._host}:{port}/"],
                check=False,
                capture_output=True,
            )
            if done.returncode:
                raise OSError("not yet")
        else:
            socket.create_connection((self._host, port), timeout=1.0).close()

    def stop(self) -> None:
        """End the server (a stopped one stays stopped). Its port then refuses connections."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def restart(self) -> None:
        """Stop, then start again on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def requests(self) -> list[Request]:
        """All requests finished since the start (or `forget`), oldest first."""
        self._sync()
        parsed = (self._parse(line) for line in self._access_log().splitlines())
        return [r for r in parsed if r is not None and not r.uri.startswith(SYNC_PREFIX)]

    def forget(self) -> None:
        """Begin the list of requests anew."""
        self._sync()
        for name in ("access.log", "stderr.log"):
            if (self._home / name).exists():
                os.truncate(self._home / name, 0)

    def log_tail(self) -> str:
        """The last lines of what the server itself complained about."""
        logs = [self._home / name for name in ("stderr.log", "error.log")]
        text = "\n".join(log.read_text(errors="replace") for log in logs if log.exists())
        return text[-2000:]

    def _access_log(self) -> str:
        for name in ("access.log", "stderr.log"):
            if (self._home / name).exists():
                return (self._home / name).read_text(errors="replace")
        return ""

    def _sync(self) -> None:
        """Wait until the log shows all that was answered before.

        A server logs after it answered; so one more request, of a name nobody else asks for, is
        made, and waited for in the log.
        """
        if self._process is None:
            return
        self._syncs += 1
        name = f"{SYNC_PREFIX}{os.getpid()}-{self._syncs}"
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS) as conn:
            if self._scheme == "https":
                return  # these tests count no requests
            conn.sendall(f"HEAD {name} HTTP/1.1\r\nHost: sync\r\nConnection: close\r\n\r\n".encode())
            while conn.recv(65536):
                pass
        until = time.monotonic() + START_SECONDS
        logged = re.compile(re.escape(name) + r"(?!\d)")
        while not logged.search(self._access_log()):
            if time.monotonic() > until:
                raise ServerError(f"the access log does not show {name}: {self.log_tail()}")
            time.sleep(0.002)


def _find(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise ServerError(f"{program} is not installed: apt-get install nginx-light apache2 lighttpd caddy")
    return found


_PREFIX = [_find("setpriv"), "--pdeathsig", "KILL", "--"]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process we started; a frozen one too."""
    process.terminate()
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _serve(
    root: Path,
    configure: Callable[[Path, int], Sequence[str]],
    parse: Callable[[str], Request | None],
    *,
    scheme: str = "http",
    host: str = "127.0.0.1",
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="mirror-server-"))
    server = Server(root, home, configure, parse, scheme=scheme, host=host, prefix=prefix)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


# -- nginx -----------------------------------------------------------------------------------


def nginx(
    root: Path,
    *,
    autoindex: Literal["html", "json", "xml", "off"] = "html",
    extra_conf: str = "",
    rate: str | None = None,
    tls: tuple[Path, Path] | None = None,
    http2: bool = False,
    host: str = "127.0.0.1",
    prefix: Sequence[str] = (),
) -> AbstractContextManager[Server]:
    """Start nginx.

    Args:
        root: the folder to serve.
        autoindex: the format of its listings.
        extra_conf: directives for the ``server`` block.
        rate: bytes a second for each connection, as nginx spells it (``"512k"``).
        tls: certificate (chain) and key, both PEM: serve https instead of http.
        http2: offer HTTP/2 over it.
        host: the address to listen on.
        prefix: a program that starts it (in another network namespace); it then has no list of requests.
    """
    listing = "autoindex off;" if autoindex == "off" else f"autoindex on; autoindex_format {autoindex};"
    limit = f"limit_rate {rate};" if rate else ""
    protocols = f"{' ssl' if tls else ''}{' http2' if http2 else ''}"
    certificate = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""

    def configure(home: Path, port: int) -> list[str]:
        temps = " ".join(
            f"{kind}_temp_path {home}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (home / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/error.log warn;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    {temps}
    default_type application/octet-stream;
    sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 600s;
    log_format requests escape=json
        '{{"method":"$request_method","uri":"$request_uri","range":"$http_range",'
        '"status":$status,"sent":$body_bytes_sent}}';
    access_log {home}/access.log requests;
    server {{
        listen {host}:{port} backlog=1024{protocols};
        {certificate}
        root "{root}";
        {listing}
        {limit}
        {extra_conf}
    }}
}}
""")
        return [_find("nginx"), "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"]

    def parse(line: str) -> Request | None:
        raw = json.loads(line)
        # A connection closed before it sent anything is logged without a method.
        if not raw["method"]:
            return None
        return Request(raw["method"], raw["uri"], raw["status"], raw["range"] or None, raw["sent"])

    return _serve(root, configure, parse, scheme="https" if tls else "http", host=host, prefix=prefix)


# -- Apache ----------------------------------------------------------------------------------


def _parse_plain(line: str) -> Request | None:
    """Parse ``206 10 bytes=0-9 GET /a.bin HTTP/1.1``."""
    status, sent, byte_range, *request = line.split(" ")
    if len(request) != 3:
        return None  # the connection was closed before there was a request
    asked = None if byte_range == "-" else byte_range
    return Request(request[0], request[1], int(status), asked, 0 if sent == "-" else int(sent))


def apache(
    root: Path, *, index_options: str = "FancyIndexing HTMLTable NameWidth=*", extra_conf: str = ""
) -> AbstractContextManager[Server]:
    """Start Apache httpd, with mod_autoindex in the given style."""

    def configure(home: Path, port: int) -> list[str]:
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
            for name in ("mpm_event", "authz_core", "autoindex", "dir", "headers", "mime", "setenvif")
        )
        (home / "httpd.conf").write_text(f"""
{modules}
ServerRoot {home}
ServerName 127.0.0.1
PidFile {home}/httpd.pid
DefaultRuntimeDir {home}
Listen 127.0.0.1:{port}
ErrorLog {home}/error.log
LogFormat "%>s %B %{{Range}}i %r" requests
CustomLog {home}/access.log requests
TypesConfig /dev/null
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 600
DocumentRoot "{root}"
<Directory "{root}">
    Options +Indexes +FollowSymLinks
    IndexOptions {index_options}
    DirectoryIndex disabled
    Require all granted
</Directory>
{extra_conf}
""")
        run_as = []
        if os.geteuid() == 0:
            # One process, no children that would outlive it: hence -X, and no User directive.
            shutil.chown(home, NOBODY, NOBODY)
            for log in home.iterdir():
                shutil.chown(log, NOBODY, NOBODY)
            caps = "+dac_read_search"
            run_as = [_find("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            run_as += [f"--inh-caps={caps}", f"--ambient-caps={caps}", "--pdeathsig", "KILL", "--"]
        return [*run_as, _find("apache2"), "-X", "-f", f"{home}/httpd.conf"]

    return _serve(root, configure, _parse_plain)


# -- lighttpd --------------------------------------------------------------------------------


def lighttpd(root: Path, *, extra_conf: str = "") -> AbstractContextManager[Server]:
    """Start lighttpd with mod_dirlisting, dotfiles shown."""

    def configure(home: Path, port: int) -> list[str]:
        (home / "lighttpd.conf").write_text(f"""
server.modules = ("mod_dirlisting", "mod_accesslog")
server.document-root = "{root}"
server.port = {port}
server.bind = "127.0.0.1"
server.errorlog = "{home}/error.log"
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 600
dir-listing.activate = "enable"
dir-listing.hide-dotfiles = "disable"
dir-listing.encoding = "utf-8"
accesslog.filename = "{home}/access.log"
accesslog.format = "%>s %b %{{Range}}i %r"
mimetype.assign = ("" => "application/octet-stream")
# Tests change files and look at once; for a second or two it would tell of them as they were.
server.stat-cache-engine = "disable"
{extra_conf}
""")
        return [_find("lighttpd"), "-D", "-f", f"{home}/lighttpd.conf"]

    return _serve(root, configure, _parse_plain)


# -- Caddy -----------------------------------------------------------------------------------


def caddy(root: Path, *, extra_conf: str = "") -> AbstractContextManager[Server]:
    """Start Caddy with ``file_server browse``."""

    def configure(home: Path, port: int) -> list[str]:
        (home / "Caddyfile").write_text(f"""
{{
    admin off
    auto_https off
}}
http://:{port} {{
    bind 127.0.0.1
    log {{
        output file {home}/access.log
        format json
    }}
    {extra_conf}
    root * "{root}"
    file_server browse
}}
""")
        return [_find("caddy"), "run", "--adapter", "caddyfile", "--config", f"{home}/Caddyfile"]

    def parse(line: str) -> Request | None:
        raw = json.loads(line)
        request = raw["request"]
        ranges = request["headers"].get("Range", [None])
        return Request(request["method"], request["uri"], raw["status"], ranges[0], raw["size"])

    return _serve(root, configure, parse)


# -- Python ----------------------------------------------------------------------------------

_PYTHON_LINE = re.compile(r'^\S+ - - \[[^]]*\] "(\S+) (\S+) [^"]*" (\d+) ')


def python_http(root: Path) -> AbstractContextManager[Server]:
    """Start ``python -m http.server``: no ranges, no ETag, a new connection for every request."""

    def configure(_: Path, port: int) -> list[str]:
        options = ["--bind", "127.0.0.1", "--directory", str(root)]
        return [sys.executable, "-u", "-m", "http.server", str(port), *options]

    def parse(line: str) -> Request | None:
        found = _PYTHON_LINE.match(line)
        return Request(found[1], found[2], int(found[3])) if found else None

    return _serve(root, configure, parse)
