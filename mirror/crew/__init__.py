"""Several processes for one run of fetching: an interpreter uses one CPU, whatever the machine has.

forked    the helpers of a run, from their birth to their end
called    they, as the process sees them that calls them
helper    what a helper does
messages  the words of both
sharing   how many there are, and what of the jobs and connections each has

A helper is forked at the very start, while there is neither a thread nor an event loop, which costs a few
milliseconds, and sleeps until there is enough to do. Then it makes a run of its own, as another command would
that fetches the same; who fetches what is decided as among those (:mod:`mirror.shares`). Whatever happens to
it, its files are fetched by others: helpers make a run faster and nothing else.
"""

from mirror.crew.called import Crew, Helper
from mirror.crew.forked import forked
from mirror.crew.helper import Job, help_out
from mirror.crew.sharing import helpers_share, left_for_caller, size_of_crew

__all__ = [
    "Crew",
    "Helper",
    "Job",
    "forked",
    "help_out",
    "helpers_share",
    "left_for_caller",
    "size_of_crew",
]
