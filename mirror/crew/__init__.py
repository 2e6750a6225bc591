"""Several processes for one run of fetching: an interpreter uses one CPU, whatever the machine has.

hands     what fetches one file after another: this process, or a helper
forked    the helpers of a run, from their birth to their end
called    a helper, as the process sees it that calls it
helper    what a helper does
messages  the words of both
sharing   how many there are, and what of the connections each has

A helper is forked at the very start, while there is neither a thread nor an event loop, which costs a few
milliseconds, and sleeps until there is enough to do. Whatever happens to it, its files are fetched by the
process that called it: helpers make a run faster and nothing else. What one has fetched counts once it has
said that it is safe on disk; when it ended before that, the run looks at every file once more.
"""

from mirror.crew.called import Helper, HelperGone
from mirror.crew.forked import forked
from mirror.crew.hands import Hands, Own
from mirror.crew.helper import Job, help_out
from mirror.crew.sharing import helpers_share, left_for_caller, size_of_crew

__all__ = [
    "Hands",
    "Helper",
    "HelperGone",
    "Job",
    "Own",
    "forked",
    "help_out",
    "helpers_share",
    "left_for_caller",
    "size_of_crew",
]
