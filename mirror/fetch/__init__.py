"""Getting bytes from a remote into the cache: once, in the order in which they are needed."""

from mirror.fetch.fetcher import Fetcher, open_fetcher
from mirror.fetch.fill import Fill
from mirror.fetch.slots import Priority
from mirror.fetch.small import Lane

__all__ = ["Fetcher", "Fill", "Lane", "Priority", "open_fetcher"]
