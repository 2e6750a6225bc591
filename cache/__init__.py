"""The local store: which names a source has, and the bytes of the files that were fetched.

`Cache.open` gives both halves: `Tree`, the names and versions, and `Objects`, the bytes. It knows
nothing of FUSE or of any protocol that bytes come over.
"""

from cache.errors import BadPattern, CacheBroken, CacheError, CacheFull, CacheUnusable
from cache.eviction import LetGo, nobody_has_any
from cache.extents import Extents
from cache.filler import Filler
from cache.folder import check_folder
from cache.model import Changes, Entry, Kind, Node, same_version
from cache.objects import Objects, ObjectState
from cache.store import Cache
from cache.tree import Tree
from cache.verification import Finding, State, Verification

__all__ = [
    "BadPattern",
    "Cache",
    "CacheBroken",
    "CacheError",
    "CacheFull",
    "CacheUnusable",
    "Changes",
    "Entry",
    "Extents",
    "Filler",
    "Finding",
    "Kind",
    "LetGo",
    "Node",
    "ObjectState",
    "Objects",
    "State",
    "Tree",
    "Verification",
    "check_folder",
    "nobody_has_any",
    "same_version",
]
