"""Getting bytes from a remote into the cache: once, in the order in which they are needed."""

from mirror.fetch.fetcher import Fetcher, open_fetcher
from mirror.fetch.slots import Priority

__all__ = ["Fetcher", "Priority", "open_fetcher"]
