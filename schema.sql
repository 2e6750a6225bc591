-- The index of a cache: which names its sources have, and which bytes of them are here.
--
-- Sizes and offsets are bytes. Times named *_at are seconds since the epoch (REAL); *_ns are
-- nanoseconds since the epoch. NULL always means "not known" or "never"; no other value stands for that.
-- The index is kept in WAL mode. A change that must not be undone by a power cut (rows about bytes that
-- are deleted) is committed with synchronous = FULL, everything else with NORMAL.

PRAGMA user_version = 3;


-- One version of one entry, also those that are past: what the kernel sees as an inode.
-- A source is a node too, its root: parent 0, and its canonical URL for a name.
CREATE TABLE nodes (
    -- The inode number. AUTOINCREMENT: an id is never used again, not even after a delete.
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Id of the first version of this name; the same for all its versions. Directory offsets are made
    -- of it, so that they outlast new versions and restarts.
    entry               INTEGER NOT NULL,
    -- Id of the source's root (of a root: its own).
    source              INTEGER NOT NULL,
    -- Id of the folder it is in; 0 for a root.
    parent              INTEGER NOT NULL,
    -- One path component: no "/", no NUL, not empty, at most 255 bytes. Of a root: the source's URL,
    -- free of secrets.
    name                TEXT    NOT NULL,
    -- 1 file, 2 folder.
    kind                INTEGER NOT NULL CHECK (kind IN (1, 2)),
    -- NULL: nobody has said yet, and always for folders.
    size                INTEGER CHECK (size >= 0),
    mtime_ns            INTEGER,
    -- How exact mtime_ns is; two times are compared at the coarser resolution of both.
    mtime_resolution_ns INTEGER NOT NULL CHECK (mtime_resolution_ns > 0),
    -- Strong validator of the version. Once known it does not change: another one is another node.
    validator           TEXT,
    -- When the origin last confirmed this very entry (or listed it for the first time, with its size).
    checked_at          REAL,
    -- Folders: when the last whole listing was asked for, and what makes the next one conditional.
    -- A listing confirms all entries in it, without a change to their rows.
    listed_at           REAL,
    listing_validator   TEXT,
    -- 1: this version stands at its name now. 0: superseded or removed; kept, because handles and
    -- objects of it live on, and because the version may come back: then this row becomes current again.
    current             INTEGER NOT NULL CHECK (current IN (0, 1)),
    -- 1: the last listing of the folder stated the size, and so vouches for the whole entry.
    listed_size         INTEGER NOT NULL CHECK (listed_size IN (0, 1)),
    -- Files: name of the object, 20 bytes of digest over source, path and what was first known of the
    -- version. Kept, because what is learned later must not give the object another name. NULL: folders.
    object              BLOB
) STRICT;

-- One current version for each name; also the way of every look-up.
CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name) WHERE current = 1;
-- Listings, in the order of directory offsets.
CREATE UNIQUE INDEX nodes_by_cookie ON nodes (parent, entry) WHERE current = 1;
-- Folders by the age of their listings, to go on with what an earlier process had promised of them.
CREATE INDEX nodes_listed ON nodes (source, listed_at) WHERE listed_at IS NOT NULL;
-- The folders in a folder, however many files are beside them.
CREATE INDEX nodes_folders ON nodes (parent) WHERE kind = 2 AND current = 1;
-- Earlier versions, to find one that comes back.
CREATE INDEX nodes_past ON nodes (parent, name) WHERE current = 0;


-- Files of this cache that hold bytes of a node: objects/ab/abcd… when complete, with ".part" behind
-- it until then. No row: nothing is known to be safe on disk (the file may be there all the same).
CREATE TABLE objects (
    node        INTEGER PRIMARY KEY REFERENCES nodes (id),
    -- Inode number of the file that the extents were written to; they say nothing about another one.
    inode       INTEGER NOT NULL,
    -- Length of the whole file; NULL: not known yet. Known when sealed.
    size        INTEGER CHECK (size >= 0),
    -- When it was sealed: complete, and safely on disk with its name. NULL: not (yet).
    sealed_at   REAL,
    -- When it was last opened, to within the time that such notes are gathered (some seconds).
    used_at     REAL NOT NULL,
    -- Bytes of the disk that it takes, counted in blocks as the file system does. Bytes that were
    -- written since the last checkpoint are in the claim of the process that writes them.
    occupied    INTEGER NOT NULL CHECK (occupied >= 0),
    -- What eviction goes by (docs/eviction.md): 0 small, 1 main, 2 pinned (never looked at).
    queue       INTEGER NOT NULL CHECK (queue IN (0, 1, 2)),
    -- Order in the queue, the smallest goes first: space.clock at its arrival (small), at its last open
    -- (main). -1: the origin has replaced this version.
    position    INTEGER NOT NULL,
    -- space.clock at the last open; before the first, at its arrival.
    used_clock  INTEGER NOT NULL,
    -- CRC-32C of the bytes as they came, of the whole file. NULL: not sealed, or nobody computed it.
    crc         INTEGER,
    -- The same for each run of at most 16 MiB, to say where a file is damaged: pairs of little-endian
    -- u32, length and CRC-32C, in the order of the file. NULL as crc.
    sums        BLOB,
    -- What the origin promised of the whole file and was found true, as "sha-256:HEX". NULL: nothing.
    digest      TEXT,
    -- When all its bytes were last read again and compared. NULL: never since they were written.
    verified_at REAL,
    CHECK (sealed_at IS NULL OR size IS NOT NULL)
) STRICT;

CREATE INDEX objects_by_queue ON objects (queue, position);
-- The scrub takes the one that was not looked at for the longest time.
CREATE INDEX objects_by_age ON objects (coalesce(verified_at, sealed_at)) WHERE crc IS NOT NULL;


-- Byte ranges of objects that are not sealed; of a sealed object every byte is there and it has no rows here.
-- Half-open, disjoint, none across a multiple of 16 MiB. Only bytes that are safely on disk (fdatasync)
-- are ever named.
CREATE TABLE extents (
    node  INTEGER NOT NULL REFERENCES objects (node) ON DELETE CASCADE,
    start INTEGER NOT NULL CHECK (start >= 0),
    stop  INTEGER NOT NULL CHECK (stop > start),
    -- CRC-32C of the bytes as they came. NULL: they came before such sums were kept.
    crc   INTEGER,
    PRIMARY KEY (node, start)
) STRICT, WITHOUT ROWID;


-- Sums over objects by queue, kept by the triggers below, so that nobody ever has to add them up.
CREATE TABLE queues (
    queue   INTEGER PRIMARY KEY CHECK (queue IN (0, 1, 2)),
    objects INTEGER NOT NULL,
    bytes   INTEGER NOT NULL
) STRICT;

INSERT INTO queues VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0);

CREATE TRIGGER objects_added AFTER INSERT ON objects BEGIN
    UPDATE queues SET objects = objects + 1, bytes = bytes + new.occupied WHERE queue = new.queue;
END;

CREATE TRIGGER objects_changed AFTER UPDATE OF occupied, queue ON objects BEGIN
    UPDATE queues SET objects = objects - 1, bytes = bytes - old.occupied WHERE queue = old.queue;
    UPDATE queues SET objects = objects + 1, bytes = bytes + new.occupied WHERE queue = new.queue;
END;

CREATE TRIGGER objects_removed AFTER DELETE ON objects BEGIN
    UPDATE queues SET objects = objects - 1, bytes = bytes - old.occupied WHERE queue = old.queue;
END;


-- One row: what the whole cache goes by.
CREATE TABLE space (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- Bytes of all files that were ever opened: the clock by which eviction tells ages.
    clock      INTEGER NOT NULL,
    -- Most bytes that objects may take, and least that must stay free on the file system: bytes
    -- ("107374182400") or a share of the file system ("20%"). NULL: the default.
    cache_size TEXT,
    min_free   TEXT,
    -- The start of the system in which the cache was last opened (its boot id). After another one, files
    -- without rows are looked for once. NULL: not known.
    boot       TEXT
) STRICT;

INSERT INTO space VALUES (1, 0, NULL, NULL, NULL);


-- Room that processes have taken ahead for what they write, before it is counted in objects. A process
-- holds a lock on claims/NAME for as long as it lives; the claim of a dead one is settled by the next.
CREATE TABLE claims (
    name  TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL CHECK (bytes >= 0)
) STRICT, WITHOUT ROWID;


-- Objects that were evicted, with space.clock at their last open: whether they come back soon decides
-- where they begin then. Forgotten after a while.
CREATE TABLE ghosts (
    node  INTEGER PRIMARY KEY REFERENCES nodes (id),
    clock INTEGER NOT NULL
) STRICT;

CREATE INDEX ghosts_by_age ON ghosts (clock);


-- Files that are to be kept, whatever happens: shell globs on the path below a source.
CREATE TABLE pins (
    source    INTEGER NOT NULL REFERENCES nodes (id),
    pattern   TEXT    NOT NULL,
    pinned_at REAL    NOT NULL,
    PRIMARY KEY (source, pattern)
) STRICT, WITHOUT ROWID;


-- Objects that every process is asked to let go of.
CREATE TABLE recalls (
    node     INTEGER PRIMARY KEY REFERENCES nodes (id),
    -- 0: its room is wanted, whoever has it open keeps it. 1: its bytes are wrong, nobody may be given
    -- it any more.
    bad      INTEGER NOT NULL CHECK (bad IN (0, 1)),
    asked_at REAL    NOT NULL
) STRICT;


-- Names that mean something else than before, for the kernels of all mounts: a process that serves one
-- takes back what it told its kernel when another process learned of the change. Only the latest rows
-- are kept; who finds a gap has missed some.
CREATE TABLE news (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Who wrote it, by a number of its own: it knows already.
    author INTEGER NOT NULL,
    -- A node that came to stand at its name or stands there no more; with whole = 1 a folder, in which
    -- any name may have changed.
    node   INTEGER NOT NULL,
    whole  INTEGER NOT NULL CHECK (whole IN (0, 1))
) STRICT;


-- What is left to do of an index that is being made of a whole source (`mirror index`).
CREATE TABLE scans (
    -- The folder that is to be complete, with all below it.
    folder   INTEGER PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    -- The folder that was asked for. Its own row stands for the whole run, and is the last to go.
    run      INTEGER NOT NULL,
    -- When the run began: what was seen since has nodes.checked_at after it, folders that are done have
    -- nodes.listed_at. The same for all rows of a run.
    began_at REAL    NOT NULL,
    -- 0: to be listed folder by folder, or to be divided. 1: read as one row of pages. 2: all pages are read,
    -- what they did not have goes. 3: divided, the rows of its parts are there.
    state    INTEGER NOT NULL CHECK (state IN (0, 1, 2, 3)),
    -- Of the last page that is in the index; NULL: none is.
    cursor   TEXT
) STRICT;
