"""The local store: which names a source has, and the bytes of the files that were fetched.

`Cache.open` gives both halves: `Tree`, the names and versions, and `Objects`, the bytes. It knows
nothing of FUSE or of any protocol that bytes come over.
"""

from cache.errors import CacheBroken, CacheError, CacheFull, CacheUnusable
from cache.extents import Extents
from cache.filler import Filler
from cache.folder import check_folder
from cache.model import Changes, Entry, Kind, Node, same_version
from cache.objects import Objects, ObjectState
from cache.store import Cache
from cache.tree import Tree

__all__ = [
    "Cache",
    "CacheBroken",
    "CacheError",
    "CacheFull",
    "CacheUnusable",
    "Changes",
    "Entry",
    "Extents",
    "Filler",
    "Kind",
    "Node",
    "ObjectState",
    "Objects",
    "Tree",
    "check_folder",
    "same_version",
]
