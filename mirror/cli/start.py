"""Where the ``mirror`` script begins: a Ctrl-C while the command is loaded ends it without a traceback."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line, and run it."""
    hears = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # else whoever started us ignores it
    if hears:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mirror.cli.main import main as run

    if hears:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
