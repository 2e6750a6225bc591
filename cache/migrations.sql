-- Schema 1 to 2: frozen, see cache/migrations.py. The new tables are those of schema 2.

ALTER TABLE objects RENAME TO objects_1;
ALTER TABLE extents RENAME TO extents_1;

CREATE TABLE objects (
    node        INTEGER PRIMARY KEY REFERENCES nodes (id),
    inode       INTEGER NOT NULL,
    size        INTEGER CHECK (size >= 0),
    sealed_at   REAL,
    used_at     REAL NOT NULL,
    occupied    INTEGER NOT NULL CHECK (occupied >= 0),
    queue       INTEGER NOT NULL CHECK (queue IN (0, 1, 2)),
    position    INTEGER NOT NULL,
    used_clock  INTEGER NOT NULL,
    crc         INTEGER,
    sums        BLOB,
    digest      TEXT,
    verified_at REAL,
    CHECK (sealed_at IS NULL OR size IS NOT NULL)
) STRICT;
CREATE INDEX objects_by_queue ON objects (queue, position);
CREATE INDEX objects_by_age ON objects (coalesce(verified_at, sealed_at)) WHERE crc IS NOT NULL;

CREATE TABLE extents (
    node  INTEGER NOT NULL REFERENCES objects (node) ON DELETE CASCADE,
    start INTEGER NOT NULL CHECK (start >= 0),
    stop  INTEGER NOT NULL CHECK (stop > start),
    crc   INTEGER,
    PRIMARY KEY (node, start)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE space (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    clock      INTEGER NOT NULL,
    cache_size TEXT,
    min_free   TEXT,
    boot       TEXT
) STRICT;
INSERT INTO space VALUES (1, 0, NULL, NULL, NULL);

CREATE TABLE claims (
    name  TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL CHECK (bytes >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE ghosts (
    node  INTEGER PRIMARY KEY REFERENCES nodes (id),
    clock INTEGER NOT NULL
) STRICT;
CREATE INDEX ghosts_by_age ON ghosts (clock);

CREATE TABLE pins (
    source    INTEGER NOT NULL REFERENCES nodes (id),
    pattern   TEXT    NOT NULL,
    pinned_at REAL    NOT NULL,
    PRIMARY KEY (source, pattern)
) STRICT, WITHOUT ROWID;

CREATE TABLE recalls (
    node     INTEGER PRIMARY KEY REFERENCES nodes (id),
    bad      INTEGER NOT NULL CHECK (bad IN (0, 1)),
    asked_at REAL    NOT NULL
) STRICT;

-- A file takes whole blocks; what is partial is counted by its extents, each of which may begin one.
INSERT INTO objects
    SELECT node, inode, size, sealed_at, used_at,
           CASE WHEN sealed_at IS NOT NULL THEN (size + 4095) / 4096 * 4096 + 4096
                ELSE 4096 + coalesce((SELECT sum((stop - start + 4095) / 4096 * 4096 + 4096) FROM extents_1
                                      WHERE extents_1.node = objects_1.node), 0) END,
           1, row_number() OVER (ORDER BY used_at, node) - count(*) OVER (), 0, NULL, NULL, NULL, NULL
    FROM objects_1;

-- None across a multiple of 16 MiB.
INSERT INTO extents
    WITH RECURSIVE pieces (node, start, stop, last) AS (
        SELECT node, start, min(stop, (start / 16777216 + 1) * 16777216), stop FROM extents_1
        UNION ALL
        SELECT node, stop, min(last, stop + 16777216), last FROM pieces WHERE stop < last
    )
    SELECT node, start, stop, NULL FROM pieces;

DROP TABLE extents_1;
DROP TABLE objects_1;
