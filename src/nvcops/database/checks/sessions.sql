-- name: sessions
-- How many client sessions are in each state, and how many may be.
SELECT coalesce(state, 'unknown') AS state, count(*)::int AS count
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1 ORDER BY 2 DESC;

-- name: transactions
-- Open transactions of clients, the oldest first: what they do now, since when, and for whom.
SELECT
    pid, coalesce(usename, '') AS "user", coalesce(application_name, '') AS application,
    coalesce(state, '') AS state,
    extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_s,
    extract(epoch FROM clock_timestamp() - query_start)::float8 AS query_s,
    extract(epoch FROM clock_timestamp() - state_change)::float8 AS state_s,
    coalesce(query_id, 0) AS query_id
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 100;

-- name: lock_waits
-- Who waits for a lock, for how long, and who holds it.
WITH waits AS MATERIALIZED (
    SELECT pid, min(waitstart) AS waitstart FROM pg_locks WHERE NOT granted GROUP BY pid
), waiting AS MATERIALIZED (
    SELECT a.pid, a.usename, a.application_name, coalesce(w.waitstart, a.query_start) AS since
    FROM pg_stat_activity a LEFT JOIN waits w ON w.pid = a.pid
    WHERE a.wait_event_type = 'Lock' ORDER BY 4 LIMIT 100
), blocked AS MATERIALIZED (
    SELECT *, pg_blocking_pids(pid) AS blocked_by FROM waiting
)
SELECT
    pid, coalesce(usename, '') AS "user", coalesce(application_name, '') AS application,
    extract(epoch FROM clock_timestamp() - since)::float8 AS waited_s, blocked_by,
    coalesce((
        SELECT string_agg(format('%s (%s, %s)', b.pid, b.usename, b.state), ', ' ORDER BY b.pid)
        FROM pg_stat_activity b WHERE b.pid = ANY (blocked_by)
    ), '') AS blockers
FROM blocked ORDER BY waited_s DESC NULLS LAST;

-- name: lock_queues
-- Tables that somebody waits to have for himself: who that is, for how long, and how many sessions queue behind.
WITH waiting AS MATERIALIZED (
    SELECT pid, database, relation, mode, coalesce(waitstart, clock_timestamp()) AS since
    FROM pg_locks WHERE NOT granted AND locktype = 'relation'
), heads AS (
    SELECT DISTINCT ON (database, relation) * FROM waiting
    WHERE mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    ORDER BY database, relation, since
)
SELECT
    h.pid, coalesce(a.usename, '') AS "user", coalesce(a.application_name, '') AS application, h.mode,
    coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'a table of ' || quote_ident(a.datname), '') AS name,
    greatest(extract(epoch FROM clock_timestamp() - h.since), 0)::float8 AS waited_s,
    (
        SELECT count(*)::int FROM waiting w
        WHERE w.database = h.database AND w.relation = h.relation AND w.since >= h.since AND w.pid <> h.pid
    ) AS behind,
    pg_blocking_pids(h.pid) AS blocked_by
FROM heads h
JOIN pg_stat_activity a ON a.pid = h.pid
LEFT JOIN pg_class c ON c.oid = h.relation AND h.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 7 DESC, 6 DESC LIMIT 20;

-- name: shares
-- Whose the client sessions are, by role and by database, and how many each may have (-1: as many as there are).
SELECT 'role' AS kind, r.rolname AS name, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END AS most, count(*)::int AS count
FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() GROUP BY 1, 2, 3
UNION ALL
SELECT 'database', d.datname, d.datconnlimit, count(*)::int
FROM pg_stat_activity a JOIN pg_database d ON d.oid = a.datid
WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() GROUP BY 1, 2, 3
ORDER BY 4 DESC, 1, 2 LIMIT 1000;

-- name: deadlocks
-- Deadlocks of this database, and since when they are counted: where that is not known, since the server's own counters
-- began, which is not later.
SELECT
    deadlocks::float8 AS count,
    extract(epoch FROM now() - coalesce(stats_reset, least(
        (SELECT stats_reset FROM pg_stat_bgwriter), (SELECT stats_reset FROM pg_stat_archiver),
        (SELECT stats_reset FROM pg_stat_wal)
    ), pg_postmaster_start_time()))::float8 AS counted_s
FROM pg_stat_database WHERE datname = current_database();

-- name: prepared
-- Transactions that were prepared and wait for COMMIT PREPARED: they hold locks and old rows, through restarts too.
SELECT gid, owner AS "user", database, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age_s
FROM pg_prepared_xacts ORDER BY prepared LIMIT 100;
