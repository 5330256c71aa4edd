-- Our own records of runs. Times are seconds since 1970 in UTC, JSON stands in columns that end in _json.

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    procedure TEXT NOT NULL,
    platform TEXT NOT NULL,
    lock TEXT NOT NULL,                       -- '' where it only reads
    state TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requester_key TEXT NOT NULL DEFAULT '',   -- fingerprint of the key that signed the request
    requested REAL NOT NULL,
    due REAL,
    dry_run INTEGER NOT NULL,
    options_json TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    worker TEXT NOT NULL DEFAULT '',          -- who has it, '' when nobody
    begun REAL,
    ended REAL,
    verdict INTEGER,
    summary TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    exit_code INTEGER,
    cancelled_by TEXT NOT NULL DEFAULT '',    -- somebody wants it to stop at the next step
    crashes INTEGER NOT NULL DEFAULT 0        -- how many workers died of it
);
CREATE INDEX runs_by_state ON runs (platform, state, requested);
CREATE INDEX runs_by_time ON runs (platform, requested);
CREATE UNIQUE INDEX runs_due ON runs (platform, procedure, due) WHERE due IS NOT NULL;

CREATE TABLE steps (
    run TEXT NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    started REAL,
    ended REAL,
    result_json TEXT,
    error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, number)
);

CREATE TABLE sections (
    run TEXT NOT NULL,
    number INTEGER NOT NULL,                  -- of the step that concluded it
    section_json TEXT NOT NULL,
    PRIMARY KEY (run, number)
);

-- What people said about a step: once, whoever comes first.
CREATE TABLE decisions (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    kind TEXT NOT NULL,
    person TEXT NOT NULL,
    note TEXT NOT NULL,
    time REAL NOT NULL,
    signed_json TEXT NOT NULL DEFAULT '',     -- the signed statement, checked again before anything is done on it
    PRIMARY KEY (run, step)
);

CREATE TABLE locks (
    platform TEXT NOT NULL,
    lock TEXT NOT NULL,
    run TEXT NOT NULL,
    since REAL NOT NULL,
    PRIMARY KEY (platform, lock)
);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                       -- serve, cli
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    birth TEXT NOT NULL,                      -- when the process began, so that a reused pid is another one
    heartbeat REAL NOT NULL
);

-- Up to when each procedure's cadence was followed, another cadence begins anew.
CREATE TABLE watched (
    platform TEXT NOT NULL,
    procedure TEXT NOT NULL,
    cadence TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (platform, procedure)
);

CREATE TABLE missed (
    platform TEXT NOT NULL,
    procedure TEXT NOT NULL,
    due REAL NOT NULL,
    noticed REAL NOT NULL,
    PRIMARY KEY (platform, procedure, due)
);
