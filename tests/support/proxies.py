"""A real proxy, Apache's mod_proxy, for http (forwarding) and https (CONNECT)."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.servers import Server, apache

_MODULES = "".join(
    f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
    for name in ("proxy", "proxy_http", "proxy_connect")
)
_AUTH = "".join(
    f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
    for name in ("auth_basic", "authn_core", "authn_file", "authz_user")
)


def accounts(folder: Path, user: str, password: str) -> Path:
    """A file of accounts with one in it."""
    file = folder / f"{user}.htpasswd"
    subprocess.run(["htpasswd", "-bc", str(file), user, password], check=True, capture_output=True)
    return file


def demand(file: Path) -> str:
    """Directives that let only the accounts of a file in."""
    return (
        f'AuthType Basic\nAuthName all\nAuthBasicProvider file\nAuthUserFile "{file}"\nRequire valid-user\n'
    )


def protected(root: Path, file: Path) -> AbstractContextManager[Server]:
    """A web server that asks for one of the accounts."""
    return apache(root, extra_conf=f"{_AUTH}<Location />\n{demand(file)}</Location>\n")


def proxy(
    folder: Path, *, file: Path | None = None, tls: tuple[Path, Path] | None = None
) -> AbstractContextManager[Server]:
    """A proxy to anywhere on this machine.

    Args:
        folder: any folder; nothing of it is served.
        file: accounts of those who may use it; None: everybody.
        tls: certificate and key: it is spoken to in https. The server's ``url`` says http all the same.
    """
    conf = _MODULES + (_AUTH if file else "")
    if tls:
        conf += "LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\nSSLEngine on\n"
        conf += f'SSLCertificateFile "{tls[0]}"\nSSLCertificateKeyFile "{tls[1]}"\n'
    who = demand(file) if file else "Require all granted\n"
    conf += f"ProxyRequests On\nProxyVia Off\nAllowCONNECT 1-65535\n<Proxy *>\n{who}</Proxy>\n"
    return apache(folder, extra_conf=conf)
