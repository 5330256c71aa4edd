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
