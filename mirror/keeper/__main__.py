"""Entry point of the keeper process: ``python -m mirror.keeper``, started by `mirror.keeper.launch`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

from mirror.config import MountConfig
from mirror.errors import MirrorError, SetupError
from mirror.keeper.life import Keeper, exit_code


class Launcher:
    """A process that waits for this one to be ready, at the other end of a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int | None:
        """Readable when the launcher is gone."""
        return self._socket.fileno()

    def ready(self, warning: str | None) -> None:
        """Report success and let go."""
        self._send("R" + (warning or ""))

    def failed(self, error: MirrorError) -> None:
        """Report why the mount cannot be."""
        self._send(f"E{exit_code(error)}{error}")

    def _send(self, text: str) -> None:
        # A launcher that was interrupted does not wait for an answer.
        with contextlib.suppress(OSError):
            self._socket.sendall(text.encode(errors="backslashreplace"))


class Terminal:
    """A user who watches."""

    def __init__(self, config: MountConfig) -> None:
        self._config = config

    def fileno(self) -> int | None:
        """A terminal that goes away sends SIGHUP."""
        return None

    def ready(self, warning: str | None) -> None:
        """Say that the mount is there."""
        if warning:
            _say(f"warning: {warning}")
        _say(f"{self._config.source} is mounted on {self._config.mountpoint}")

    def failed(self, error: MirrorError) -> None:
        """Say why it is not, or not any more."""
        _say(str(error))


def _say(line: str) -> None:
    sys.stderr.write(f"mirror: {line}\n")
    sys.stderr.flush()


def _redirect_errors(config: MountConfig) -> None:
    """Send what both processes log to the file that was chosen. Raises SetupError."""
    if config.log_file is None:
        return
    path = Path(config.log_file)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise SetupError(f"cannot write the log file {path}: {exc.strerror}") from exc
    if config.foreground:
        # The log goes to the file, what a user should see at once still to the terminal.
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(fd, 2)
    os.close(fd)


def main() -> int:
    """Keep one mount until it ends."""
    parser = argparse.ArgumentParser(prog="mirror.keeper", description="Started by 'mirror mount' only.")
    parser.add_argument("--config-fd", type=int, required=True)
    parser.add_argument("--launcher-fd", type=int)
    parser.add_argument("--worker", default="mirror.worker", help="module that serves the mount")
    arguments = parser.parse_args()
    with open(arguments.config_fd, "rb") as stream:  # noqa: PTH123 - a descriptor
        config = MountConfig.from_json(stream.read())
    audience: Launcher | Terminal
    if arguments.launcher_fd is not None:
        audience = Launcher(socket.socket(fileno=arguments.launcher_fd))
        os.chdir("/")
    else:
        audience = Terminal(config)
    try:
        _redirect_errors(config)
        logging.basicConfig(
            stream=os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace"),
            level=logging.DEBUG if os.environ.get("MIRROR_DEBUG") else logging.INFO,
            format="%(asctime)s %(name)s %(levelname)s: %(message)s",
        )
        told_by = Keeper(config, audience, arguments.worker).run()
    except MirrorError as error:
        if config.log_file is not None or isinstance(audience, Launcher):
            # Else the log is the terminal, which the audience is.
            logging.getLogger("keeper").error("%s", error)  # noqa: TRY400 - one line says it all
        audience.failed(error)
        return exit_code(error)
    # As of a program that the signal has killed: the mount was never there.
    return 0 if told_by is None else 128 + told_by


if __name__ == "__main__":
    sys.exit(main())
