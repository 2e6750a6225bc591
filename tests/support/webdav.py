"""Real WebDAV servers over a folder: Apache's mod_dav and WsgiDAV, as `tests.support.servers` starts them."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.servers import Request, Server, _serve, apache

_APACHE = """
LoadModule dav_module /usr/lib/apache2/modules/mod_dav.so
LoadModule dav_fs_module /usr/lib/apache2/modules/mod_dav_fs.so
DavLockDB locks
<Directory "{root}">
    Dav On
</Directory>
"""


def apache_dav(root: Path, *, extra_conf: str = "") -> AbstractContextManager[Server]:
    """Start Apache with mod_dav_fs."""
    return apache(root, extra_conf=_APACHE.format(root=root) + extra_conf)


def wsgidav(root: Path, *, user: str | None = None, password: str = "") -> AbstractContextManager[Server]:
    """Start WsgiDAV, with basic authentication where there is a ``user``."""

    def configure(home: Path, port: int) -> list[str]:
        accounts = {user: {"password": password}} if user else True
        (home / "wsgidav.json").write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": port,
                    "provider_mapping": {"/": {"root": str(root), "readonly": True}},
                    "http_authenticator": {
                        "accept_basic": True,
                        "accept_digest": False,
                        "default_to_digest": False,
                    },
                    "simple_dc": {"user_mapping": {"*": accounts}},
                    "property_manager": False,
                    "lock_storage": False,
                    "verbose": 3,
                    "logging": {"enable": True},
                }
            )
        )
        return [sys.executable, "-u", "-m", "wsgidav.server.server_cli", "--config", f"{home}/wsgidav.json"]

    def parse(line: str) -> Request | None:
        # 127.0.0.1 - (anonymous) - [2026-11-25 06:00:00] "PROPFIND /a" length=, depth=1, elap=0.001sec -> 207
        _, quote, rest = line.partition('"')
        request, _, rest = rest.partition('" ')
        words = request.split(" ", 1)
        if not quote or len(words) != 2 or "-> " not in rest:
            return None
        return Request(words[0], words[1], int(rest.rpartition("-> ")[2][:3]))

    return _serve(root, configure, parse)
