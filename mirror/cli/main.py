"""The ``mirror`` command: its group, and the one place where a failure becomes a line and an exit code.

Exit codes: 0 done, 1 what was asked failed, 2 it was asked wrongly, 130 and 143 stopped by a signal.
Whatever goes wrong prints one line ``mirror: …`` on standard error. A traceback is for whoever asks for
it, by ``--verbose`` or ``MIRROR_DEBUG=1``; without, also a bug of ours is one line that says how to get it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import traceback
from gc import freeze
from types import TracebackType
from typing import NoReturn

import click

from mirror.cli import human
from mirror.cli.doctor import doctor
from mirror.cli.du import du
from mirror.cli.evict import evict
from mirror.cli.fsck import fsck
from mirror.cli.gc import gc
from mirror.cli.index import index
from mirror.cli.ls import ls
from mirror.cli.manifest import manifest
from mirror.cli.mount import mount
from mirror.cli.pin import pin
from mirror.cli.pins import pins
from mirror.cli.refresh import refresh
from mirror.cli.status import status
from mirror.cli.unmount import unmount
from mirror.cli.unpin import unpin
from mirror.cli.verify import verify
from mirror.cli.warm import warm
from mirror.errors import MirrorError, UsageError

EXAMPLES = """\b
Examples:
  mirror mount https://data.example.org/imagenet/ /mnt/imagenet
  mirror warm https://data.example.org/imagenet/ 'train/**/*.tar'
  mirror pin https://data.example.org/imagenet/ labels
  mirror du
  mirror status
  mirror unmount /mnt/imagenet

To complete commands and options in your shell, put this in its start-up file:

\b
  bash   eval "$(_MIRROR_COMPLETE=bash_source mirror)"
  zsh    eval "$(_MIRROR_COMPLETE=zsh_source mirror)"
  fish   _MIRROR_COMPLETE=fish_source mirror | source
"""


@click.group(
    epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="mirrorfs", prog_name="mirror", message="%(prog)s %(version)s")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show where in the code an error came from (also MIRROR_DEBUG=1)."
)
def cli(verbose: bool) -> None:
    """Mount a remote tree of files read-only, through a local cache.

    A file that is complete in the cache is read by the kernel alone, at the speed of the local disk.
    """
    if verbose:
        # In the environment, so that the processes of a mount know it too.
        os.environ["MIRROR_DEBUG"] = "1"
    logging.basicConfig(handlers=[_Said()], level=logging.WARNING)


class _Said(logging.Handler):
    """Shows what the code below warns of (an origin that is down, a disk that is full) as a line of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print through click, which finds the standard error of this moment: a progress bar may stand in."""
        click.echo(f"mirror: warning: {human.name(' '.join(record.getMessage().split()))}", err=True)


for command in (
    mount,
    unmount,
    warm,
    index,
    refresh,
    manifest,
    ls,
    du,
    pin,
    unpin,
    pins,
    evict,
    verify,
    fsck,
    gc,
    status,
    doctor,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.excepthook = _report_bug
    # All that is left then is for the kernel to take back: Python would first look through it for garbage.
    atexit.register(freeze)
    try:
        # Not standalone: click would print usage errors over several lines.
        code = cli.main(prog_name="mirror", standalone_mode=False)
    except click.Abort:
        _fail("stopped", None, 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        _fail(f"{_one_line(error.format_message())} {_see_help(error.ctx)}", error, 2)
    except click.ClickException as error:
        _fail(error.format_message(), error, 1)
    except UsageError as error:
        _fail(str(error), error, 2)
    except MirrorError as error:
        _fail(str(error) or type(error).__name__, error, 1)
    except OSError as error:
        if not _output_is_broken():
            raise
        _fail(f"standard output cannot be written ({error.strerror})", error, 1)
    sys.exit(code)


def _output_is_broken() -> bool:
    """Whether it is standard output that fails: then one more line does, too."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the interpreter's end
        return True
    return False


def _one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if line.endswith(".") else line + "."


def _see_help(context: click.Context | None) -> str:
    return f"See '{context.command_path if context else 'mirror'} --help'"


def _fail(message: str, error: BaseException | None, code: int) -> NoReturn:
    if error is not None and os.environ.get("MIRROR_DEBUG"):
        traceback.print_exception(error)
    click.echo(f"mirror: {human.name(' '.join(message.split()))}", err=True)
    sys.exit(code)


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Take the place of the interpreter's hook for what nobody caught; the exit code stays its 1."""
    if os.environ.get("MIRROR_DEBUG"):
        sys.__excepthook__(kind, error, trace)
    else:
        said = " ".join(str(error).split())
        click.echo(
            f"mirror: a bug in mirror ({kind.__name__}: {said}). Run again with MIRROR_DEBUG=1 to see where",
            err=True,
        )
