-- Times are milliseconds since 1970 in UTC, buckets are 5 minutes. Only what rose is written: an idle series costs nothing.

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    instance TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    key TEXT NOT NULL,
    UNIQUE (service, instance, key)
) STRICT;
CREATE INDEX series_by_name ON series (service, name);

-- The last value of each series: the next one is compared with it.
CREATE TABLE latest (series INTEGER PRIMARY KEY, value REAL NOT NULL) STRICT;

CREATE TABLE raw (at INTEGER, series INTEGER, increase REAL NOT NULL, PRIMARY KEY (at, series)) STRICT, WITHOUT ROWID;
CREATE TABLE rollup (series INTEGER, at INTEGER, increase REAL NOT NULL, PRIMARY KEY (series, at)) STRICT, WITHOUT ROWID;

-- Each time that somebody was asked; `covers` is the time since the last one, as far as it was watched. `took` is how
-- long the answer took, NULL where none came.
CREATE TABLE probe (
    service TEXT, instance TEXT, at INTEGER, ready INTEGER NOT NULL, covers INTEGER NOT NULL, took REAL,
    PRIMARY KEY (service, instance, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE probe_rollup (
    service TEXT, instance TEXT, at INTEGER, asked INTEGER NOT NULL, ready INTEGER NOT NULL, covers INTEGER NOT NULL,
    PRIMARY KEY (service, instance, at)
) STRICT, WITHOUT ROWID;

-- What each was when it was last asked; `page_at` is when its metrics were last read, 0 for never.
CREATE TABLE state (
    service TEXT, instance TEXT, at INTEGER NOT NULL, ready TEXT NOT NULL, version TEXT NOT NULL, start TEXT NOT NULL,
    page_at INTEGER NOT NULL, PRIMARY KEY (service, instance)
) STRICT, WITHOUT ROWID;

CREATE TABLE change (
    at INTEGER NOT NULL, service TEXT NOT NULL, instance TEXT NOT NULL, what TEXT NOT NULL,
    before TEXT NOT NULL, after TEXT NOT NULL
) STRICT;
CREATE INDEX change_by_time ON change (at);
