"""Python itself: how its builder made it."""

from __future__ import annotations

import platform
import sys
import sysconfig

from mirror.doctor.finding import Finding, Verdict

_OPTIMISED = "--enable-optimizations"
"""Of Python's ``configure``: what profiles of typical programs say is used. Distributions do the same."""


def python(version: str, options: str | None, *, distribution: bool) -> Finding:
    """Judge an interpreter.

    Args:
        version: such as ``3.11.2``.
        options: what it was configured with; None: it does not say.
        distribution: it comes with the operating system.
    """
    if distribution or options is None or _OPTIMISED in options:
        return Finding("python", Verdict.OK, f"Python {version}")
    return Finding(
        "python",
        Verdict.WARN,
        f"Python {version} was built without optimisation: small files take up to half as long again",
        f"use your distribution's Python, or one that was built with {_OPTIMISED}",
    )


def running() -> tuple[str, str | None, bool]:
    """What there is to know of the interpreter that runs this: see `python`."""
    return platform.python_version(), sysconfig.get_config_var("CONFIG_ARGS"), sys.base_prefix == "/usr"
