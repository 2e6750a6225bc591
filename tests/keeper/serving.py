"""A small worker for the keeper's tests: a static tree over pyfuse3, without cache or origin.

The source is a folder on disk; every file below it is shown, flat, by name. Files whose name begins
with ``whole`` are registered before their OPEN is answered, ``later`` ones only when they are read;
opening ``retire`` retires all; all others stay page-cached. READs of ``refer`` files are answered by
reference; those of ``sourceless`` and ``forged`` ones by references that nothing stands behind and that
this worker may not make. A name that ends in ``direct`` is opened without the page cache. Opening ``yield``
asks the keeper to let go of all, and tries to lock what it let go. What is registered is locked.
``MIRROR_TEST_WORKER`` holds words that make it misbehave.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import sys
from collections import Counter
from pathlib import Path

import pyfuse3
import trio

from mirror.keeper import link, privileges
from mirror.keeper.control import References, Registrar
from mirror.keeper.questions import Questions

MISBEHAVE = set(os.environ.get("MIRROR_TEST_WORKER", "").split())
FIRST_NODE = 1000


class Tree(pyfuse3.Operations):
    """The files of one folder, numbered by name."""

    supports_dot_lookup = False
    enable_writeback_cache = True  # wished for; the keeper must not let it happen

    def __init__(self, folder: Path, registrar: Registrar, fuse_fd: int, token: bytes) -> None:
        super().__init__()
        self.folder = folder
        self.references = References(registrar, token)
        self.forged = References(registrar, os.urandom(len(token)))
        self.names = {FIRST_NODE + i: path.name for i, path in enumerate(sorted(folder.iterdir()))}
        self.sizes = {node: self.path(node).stat().st_size for node in self.names}
        self.registrar = registrar
        self.questions = Questions(registrar, fuse_fd)
        self.let_go: list[str] = []
        self.still_locked: list[str] = []
        self.told: Counter[str] = Counter()
        self.reads = 0
        self.opens = 0
        self.releases = 0

    def path(self, node: int) -> Path:
        return self.folder / self.names[node]

    def register(self, node: int) -> None:
        fd = os.open(self.path(node), os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            self.registrar.register(node, fd)
        finally:
            os.close(fd)

    async def ask_to_yield(self) -> None:
        gone = await self.questions.let_go(list(self.names))
        self.let_go = sorted(self.names[node] for node in gone)
        for node in gone:
            with self.path(node).open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.still_locked.append(self.names[node])

    def statistics(self) -> dict[str, object]:
        return {
            "worker_reads": self.reads,
            "worker_opens": self.opens,
            "let_go": self.let_go,
            "still_locked": self.still_locked,
            "told": self.told,
        }

    def refer(self, references: References, node: int, offset: int, size: int) -> bytes:
        with self.path(node).open("rb") as file:
            references.offer(node, file.fileno())
        return references.payload(node, offset, min(size, self.sizes[node] - offset))

    def attributes(self, node: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node
        entry.attr_timeout = entry.entry_timeout = 3600
        if node == pyfuse3.ROOT_INODE:
            entry.st_mode = stat.S_IFDIR | 0o755
        else:
            entry.st_mode = stat.S_IFREG | 0o644
            entry.st_size = self.path(node).stat().st_size
        return entry

    async def getattr(self, inode, ctx=None):
        if "hang" in MISBEHAVE:
            await trio.sleep_forever()
        return self.attributes(inode)

    async def lookup(self, parent_inode, name, ctx=None):
        for node, known in self.names.items():
            if known == os.fsdecode(name):
                return self.attributes(node)
        raise pyfuse3.FUSEError(errno.ENOENT)

    async def statfs(self, ctx):
        return pyfuse3.StatvfsData()

    async def opendir(self, inode, ctx):
        return inode

    async def readdir(self, fh, start_id, token):
        for node, name in sorted(self.names.items()):
            if node > start_id and not pyfuse3.readdir_reply(
                token, os.fsencode(name), self.attributes(node), node
            ):
                return

    async def open(self, inode, flags, ctx):
        self.opens += 1
        name = self.names[inode]
        if name.startswith("whole"):
            self.register(inode)
        if name.startswith("retire"):
            for node in self.names:
                self.registrar.retire(node)
        if name.startswith("yield"):
            await self.ask_to_yield()
        if name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        direct = name.endswith("direct")
        return pyfuse3.FileInfo(fh=inode, direct_io=direct, keep_cache=not direct)

    async def read(self, fh, off, size):
        self.reads += 1
        name = self.names[fh]
        if name.startswith("stuck"):
            await trio.sleep_forever()
        if name.startswith("later"):
            self.register(fh)
        if name.startswith("refer"):
            return self.refer(self.references, fh, off, size)
        if name.startswith("forged"):
            return self.refer(self.forged, fh, off, size)
        if name.startswith("sourceless"):
            return self.refer(self.references, fh, off, size)[:-4] + b"\xff\xff\xff\xff"
        with self.path(fh).open("rb") as file:
            return os.pread(file.fileno(), size, off)

    async def release(self, fh):
        self.releases += 1


async def serve(tree: Tree, fuse_fd: int, supervisor: link.WorkerEnd) -> None:
    pyfuse3.init(tree, f"/dev/fd/{fuse_fd}", {"default_permissions"})
    supervisor.prepared("the origin is slow" if "warn" in MISBEHAVE else None)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, tree, supervisor, nursery.cancel_scope)
            nursery.start_soon(tree.questions.run)
            await pyfuse3.main()
            nursery.cancel_scope.cancel()
    finally:
        pyfuse3.close(unmount=False)


async def answer(tree: Tree, supervisor: link.WorkerEnd, scope: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(supervisor.fileno())
        match supervisor.receive():
            case link.Request.QUIT:
                print("told of", json.dumps(tree.told), file=sys.stderr)
                scope.cancel()  # also those who wait for ever
                return
            case link.Request.STATS:
                supervisor.stats(json.dumps(tree.statistics()))
            case link.Opens(nodes):
                tree.told.update(tree.names[node] for node, _ in nodes)


def main() -> None:
    privileges.drop_all()
    parser = argparse.ArgumentParser()
    for name in ("fuse", "control", "link"):
        parser.add_argument(f"--{name}-fd", type=int, required=True)
    arguments = parser.parse_args()
    supervisor = link.WorkerEnd(socket.socket(fileno=arguments.link_fd))
    assignment = supervisor.configuration()
    if "fail" in MISBEHAVE:
        supervisor.failed("the origin says no (403): check the credentials")
        sys.exit(1)
    if "die" in MISBEHAVE or ("die-later" in MISBEHAVE and assignment.generation > 0):
        sys.exit("no strength left")
    registrar = Registrar(socket.socket(fileno=arguments.control_fd))
    folder = Path(assignment.config.source.removeprefix("test:"))
    tree = Tree(folder, registrar, arguments.fuse_fd, assignment.token)
    trio.run(serve, tree, arguments.fuse_fd, supervisor)


if __name__ == "__main__":
    main()
