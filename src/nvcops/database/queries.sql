-- Every query runs with pg_monitor alone, on PostgreSQL 15 to 18.

-- name: server
-- What a server says of itself: its role, its clock, its connections, and how far in the WAL it is.
SELECT
    pg_is_in_recovery() AS in_recovery,
    clock_timestamp() AS now,
    current_setting('server_version') AS version,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS connections_max,
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0'
    )::bigint AS position,
    CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused,
    coalesce((SELECT status FROM pg_stat_wal_receiver), '') AS receiver,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS replayed_s;

-- name: senders
-- The connections on which standbys receive the WAL.
SELECT application_name AS name, state, sync_state FROM pg_stat_replication
WHERE replay_lsn IS NOT NULL  -- who only receives the log, or takes a backup, replays nothing
ORDER BY 1;

-- name: slots
-- Replication slots: one that nobody uses keeps WAL until the disk is full.
SELECT
    slot_name AS name, active, coalesce(wal_status, '') AS wal_status,
    coalesce(pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
    ), 0)::bigint AS kept_bytes
FROM pg_replication_slots ORDER BY 1;

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

-- name: waits
-- What active sessions wait for at this moment; working means not at all.
SELECT coalesce(wait_event_type || ': ' || wait_event, 'working') AS wait, count(*)::int AS count
FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 2 DESC LIMIT 20;

-- name: cache_hit
-- Blocks found in shared buffers and blocks read from outside, since the statistics were reset.
SELECT blks_hit::float8 AS hit, blks_read::float8 AS read FROM pg_stat_database WHERE datname = current_database();

-- name: tables
-- The tables with the most dead rows, and how they are read.
SELECT
    schemaname || '.' || relname AS name, n_live_tup::float8 AS live, n_dead_tup::float8 AS dead,
    coalesce(seq_scan, 0)::float8 AS scans, coalesce(seq_tup_read, 0)::float8 AS scanned,
    coalesce(idx_scan, 0)::float8 AS lookups,
    pg_relation_size(relid)::float8 AS bytes
FROM pg_stat_user_tables ORDER BY n_dead_tup DESC, 1 LIMIT 1000;

-- name: indexes
-- Every index of the users' tables, and whether queries may use it.
SELECT n.nspname || '.' || c.relname AS name, i.indisvalid AND i.indisready AS valid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') ORDER BY 1 LIMIT 10000;

-- name: statements_home
-- The schema that pg_stat_statements was installed into, and whether the server has loaded it.
SELECT n.nspname AS schema,
    current_setting('shared_preload_libraries', true) LIKE '%pg_stat_statements%' AS loaded
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';

-- name: statements
-- The statements on which this database spends the most time. Constants are out of their text; what alters roles, and
-- could hold a password, is not among them.
SELECT
    queryid AS id, left(regexp_replace(query, '\s+', ' ', 'g'), 160) AS text, calls::float8 AS calls,
    mean_exec_time / 1000 AS mean_s, total_exec_time / 1000 AS total_s
FROM {schema}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel
    AND query ~* '^\s*(select|insert|update|delete|with|merge)\y'
ORDER BY total_exec_time DESC LIMIT 200;
