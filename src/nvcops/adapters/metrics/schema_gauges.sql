-- Since format 2. Gauges: each reading, and the newest one of each 5 minutes with its moment.

CREATE TABLE gauge (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    instance TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    key TEXT NOT NULL,
    UNIQUE (service, instance, key)
) STRICT;
CREATE INDEX gauge_by_name ON gauge (service, name);

CREATE TABLE reading (at INTEGER, gauge INTEGER, value REAL NOT NULL, PRIMARY KEY (at, gauge)) STRICT, WITHOUT ROWID;
CREATE TABLE reading_rollup (
    gauge INTEGER, at INTEGER, newest INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (gauge, at)
) STRICT, WITHOUT ROWID;
