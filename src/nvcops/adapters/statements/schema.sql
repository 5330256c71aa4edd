-- A server, when its pg_stat_statements were read last, since when it counts, and how many it had to forget.
CREATE TABLE server (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, reset INTEGER NOT NULL,
    forgotten INTEGER NOT NULL);
-- A statement by its text; 0 stands for all that cost too little to be told apart.
CREATE TABLE statement (id INTEGER PRIMARY KEY, query INTEGER NOT NULL UNIQUE, text TEXT NOT NULL, seen INTEGER NOT NULL);
-- What a server had counted of a statement of a role when it was read last.
CREATE TABLE latest (server INTEGER NOT NULL, role INTEGER NOT NULL, query INTEGER NOT NULL, since INTEGER NOT NULL,
    calls REAL NOT NULL, total REAL NOT NULL, rows REAL NOT NULL,
    PRIMARY KEY (server, role, query)) WITHOUT ROWID;
-- A reading: how much time it covers (ms), and what all statements together rose by.
CREATE TABLE reading (server INTEGER NOT NULL, at INTEGER NOT NULL, covers INTEGER NOT NULL, calls REAL NOT NULL,
    total REAL NOT NULL, forgotten INTEGER NOT NULL, PRIMARY KEY (server, at)) WITHOUT ROWID;
-- How much a statement rose in a reading: calls, milliseconds, rows.
CREATE TABLE rise (at INTEGER NOT NULL, statement INTEGER NOT NULL, calls REAL NOT NULL, total REAL NOT NULL,
    rows REAL NOT NULL, PRIMARY KEY (at, statement)) WITHOUT ROWID;
-- The same by the hour.
CREATE TABLE rise_hour (at INTEGER NOT NULL, statement INTEGER NOT NULL, calls REAL NOT NULL, total REAL NOT NULL,
    rows REAL NOT NULL, PRIMARY KEY (at, statement)) WITHOUT ROWID;
-- For how many seconds of a minute somebody looked at the sessions.
CREATE TABLE looked (at INTEGER PRIMARY KEY, seconds REAL NOT NULL);
-- Seconds of a minute that sessions spent waiting for something, or working.
CREATE TABLE waited (at INTEGER NOT NULL, kind TEXT NOT NULL, event TEXT NOT NULL, query INTEGER NOT NULL,
    application TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (at, kind, event, query, application)) WITHOUT ROWID;
