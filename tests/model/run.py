"""Running sequences: ``python -m tests.model.run SEQUENCES SEED``; a seed gives the same sequences again."""

from __future__ import annotations

import json
import sys
import time

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.lockstep import done, forget_template
from tests.model.machine import MirrorMachine

STEPS = 25
"""Most operations of one sequence."""


def run(sequences: int, number: int, *, shrink: bool = True) -> None:
    """Raises what hypothesis raises: the shrunk sequence that fails, as calls, in the notes of the error."""
    how = settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.normal,
    )

    class Machine(MirrorMachine):
        pass

    try:
        run_state_machine_as_test(seed(number)(Machine), settings=how)
    finally:
        forget_template()


def main() -> None:
    sequences, number = int(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    try:
        run(sequences, number, shrink="--as-it-is" not in sys.argv)
    except BaseException:
        print(f"seed {number}: ended after {done['sequences']} sequences, {time.monotonic() - began:.0f} s")
        raise
    print(f"{sequences} sequences from seed {number}: 0 divergences, {time.monotonic() - began:.0f} s")
    print(json.dumps(done, sort_keys=True))


if __name__ == "__main__":
    main()
