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
SELECT
    waiting.pid, coalesce(waiting.usename, '') AS "user", coalesce(waiting.application_name, '') AS application,
    extract(epoch FROM clock_timestamp() - coalesce(held.waitstart, waiting.query_start))::float8 AS waited_s,
    pg_blocking_pids(waiting.pid) AS blocked_by,
    coalesce((
        SELECT string_agg(format('%s (%s, %s)', b.pid, b.usename, b.state), ', ' ORDER BY b.pid)
        FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(waiting.pid))
    ), '') AS blockers
FROM pg_stat_activity waiting
LEFT JOIN LATERAL (SELECT min(waitstart) AS waitstart FROM pg_locks l WHERE l.pid = waiting.pid AND NOT l.granted) held ON true
WHERE waiting.wait_event_type = 'Lock'
ORDER BY waited_s DESC NULLS LAST LIMIT 100;
