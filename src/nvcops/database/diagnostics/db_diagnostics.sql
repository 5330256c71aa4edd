-- name: server
-- What the primary allows and has: connections, and the standbys that a commit waits for.
SELECT
    clock_timestamp() AS now,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS connections,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS connections_max,
    current_setting('synchronous_standby_names') AS synchronous;

-- name: sessions
-- Who waits for a lock, who holds it, and who else has a transaction open; those who wait stand first.
WITH waiting AS MATERIALIZED (
    SELECT pid, pg_blocking_pids(pid) AS blockers FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 500
), blocking AS MATERIALIZED (
    SELECT DISTINCT unnest(blockers) AS pid FROM waiting
), wanted AS MATERIALIZED (
    SELECT DISTINCT ON (l.pid)
        l.pid, l.locktype, l.mode, extract(epoch FROM clock_timestamp() - l.waitstart)::float8 AS waited_s,
        CASE WHEN l.relation IS NOT NULL AND l.database = d.oid THEN l.relation::regclass::text END AS object
    FROM pg_locks l JOIN pg_database d ON d.datname = current_database() WHERE NOT l.granted ORDER BY l.pid
), tuples AS MATERIALIZED (
    SELECT DISTINCT ON (l.pid) l.pid, l.relation::regclass::text AS object
    FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
    WHERE l.granted AND l.locktype = 'tuple' ORDER BY l.pid
)
SELECT
    a.pid, coalesce(a.backend_type, '') AS kind, coalesce(a.usename, '') AS "user",
    coalesce(a.application_name, '') AS application, coalesce(host(a.client_addr), '') AS client,
    coalesce(a.state, '') AS state, coalesce(a.wait_event_type, '') AS wait_kind, coalesce(a.wait_event, '') AS wait,
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS transaction_s,
    coalesce(extract(epoch FROM clock_timestamp() - a.query_start), 0)::float8 AS query_s,
    coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::float8 AS state_s,
    coalesce(a.query_id, 0) AS query,
    coalesce(w.blockers, '{}') AS blocked_by,
    CASE WHEN w.pid IS NULL THEN 0 ELSE coalesce(wanted.waited_s, 0) END::float8 AS waited_s,
    CASE WHEN w.pid IS NULL THEN '' ELSE coalesce(wanted.mode, '') END AS mode,
    CASE WHEN w.pid IS NULL THEN '' ELSE coalesce(wanted.object, tuples.object, '') END AS object,
    CASE WHEN w.pid IS NULL THEN '' ELSE coalesce(wanted.locktype, '') END AS lock_kind,
    coalesce(a.query LIKE 'autovacuum:%to prevent wraparound%', false) AS wraparound
FROM pg_stat_activity a
LEFT JOIN waiting w ON w.pid = a.pid
LEFT JOIN wanted ON wanted.pid = a.pid
LEFT JOIN tuples ON tuples.pid = a.pid
WHERE a.pid <> pg_backend_pid()
    AND (w.pid IS NOT NULL OR a.pid IN (SELECT pid FROM blocking) OR a.xact_start IS NOT NULL)
ORDER BY w.pid IS NULL, a.pid NOT IN (SELECT pid FROM blocking), a.xact_start LIMIT 1000;

-- name: held
-- The tables that sessions in an open transaction have locked, the strongest lock first.
SELECT l.pid, l.mode, l.relation::regclass::text AS object
FROM pg_locks l
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm')
    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
WHERE l.granted AND l.locktype = 'relation' AND l.pid IS NOT NULL AND l.pid <> pg_backend_pid()
ORDER BY array_position(ARRAY['AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock',
    'ShareUpdateExclusiveLock', 'RowExclusiveLock', 'RowShareLock', 'AccessShareLock'], l.mode), 1, 3
LIMIT 2000;

-- name: prepared
-- Transactions that were prepared and wait for their coordinator: no session, but locks.
SELECT gid, owner::text AS owner, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age_s
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 100;

-- name: holders
-- Who has the connections.
SELECT coalesce(application_name, '') AS application, coalesce(usename, '') AS "user", coalesce(state, '') AS state,
    count(*)::int AS count
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 50;

-- name: senders
-- The standbys that receive the log, and how far behind each one is, in seconds.
SELECT application_name AS name, state, sync_state,
    coalesce(extract(epoch FROM flush_lag), 0)::float8 AS flush_s,
    coalesce(extract(epoch FROM replay_lag), 0)::float8 AS replay_s
FROM pg_stat_replication ORDER BY 1 LIMIT 100;

-- name: waits
-- What active sessions wait for at this moment.
SELECT coalesce(wait_event_type, '') AS kind, coalesce(wait_event, '') AS event, count(*)::float8 AS seconds
FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 100;
