"""What this machine can do for a mount, and what to change where it cannot.

A check is a pure judgement of facts, and a small reader of those facts beside it: so each judgement is tested
for machines that no test runs on. Nothing here changes the machine; the one check that needs more than
looking (`probe`) mounts a file system of its own for a moment, and only as root.
"""

from mirror.doctor.examination import examine
from mirror.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
