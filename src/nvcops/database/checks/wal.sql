-- name: cache_hit
-- Blocks that clients found in shared buffers and that they had to read, since the statistics were reset; scans of large
-- tables, which go past the cache on purpose, are not counted. From PostgreSQL 18 one read may be of several blocks.
SELECT
    coalesce(sum(hits), 0)::float8 AS hit,
    coalesce(sum(coalesce(
        (to_jsonb(i) ->> 'read_bytes')::float8, reads::float8 * (to_jsonb(i) ->> 'op_bytes')::float8
    )) / current_setting('block_size')::float8, 0) AS read
FROM pg_stat_io i WHERE backend_type = 'client backend' AND object = 'relation' AND context = 'normal';

-- name: cache_hit_older
-- The same before PostgreSQL 16, which has no pg_stat_io: of everybody in this database.
SELECT blks_hit::float8 AS hit, blks_read::float8 AS read FROM pg_stat_database WHERE datname = current_database();

-- name: checkpoints
-- Checkpoints that came in time, and that were asked for before it was time: by too much WAL, mostly.
SELECT
    num_timed::float8 AS timed, num_requested::float8 AS requested,
    extract(epoch FROM clock_timestamp() - stats_reset)::float8 AS seconds,
    (SELECT setting::float8 FROM pg_settings WHERE name = 'checkpoint_timeout') AS timeout_s,
    (SELECT wal_bytes::float8 FROM pg_stat_wal) AS wal_bytes,
    (SELECT setting::float8 * 1048576 FROM pg_settings WHERE name = 'max_wal_size') AS wal_max
FROM pg_stat_checkpointer;

-- name: checkpoints_older
-- The same before PostgreSQL 17.
SELECT
    checkpoints_timed::float8 AS timed, checkpoints_req::float8 AS requested,
    extract(epoch FROM clock_timestamp() - stats_reset)::float8 AS seconds,
    (SELECT setting::float8 FROM pg_settings WHERE name = 'checkpoint_timeout') AS timeout_s,
    (SELECT wal_bytes::float8 FROM pg_stat_wal) AS wal_bytes,
    (SELECT setting::float8 * 1048576 FROM pg_settings WHERE name = 'max_wal_size') AS wal_max
FROM pg_stat_bgwriter;

-- name: wal_size
-- Bytes of WAL on the disk, and how many it should have at most.
SELECT
    (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())::float8 AS bytes,
    (SELECT setting::float8 * 1048576 FROM pg_settings WHERE name = 'max_wal_size') AS bytes_max,
    (SELECT setting::float8 * 1048576 FROM pg_settings WHERE name = 'wal_keep_size') AS kept;

-- name: archiver
-- Whether the WAL is archived: what failed after the last success, and how many segments wait.
SELECT
    current_setting('archive_mode') AS mode, coalesce(last_failed_wal, '') AS failed, failed_count::float8 AS failures,
    last_failed_time IS NOT NULL AND (last_archived_time IS NULL OR last_failed_time > last_archived_time) AS failing,
    extract(epoch FROM clock_timestamp() - last_archived_time)::float8 AS archived_s,
    CASE WHEN current_setting('archive_mode') = 'off' THEN 0
        ELSE (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') END::float8 AS waiting
FROM pg_stat_archiver;

-- name: slots_left
-- Slots by what may still be written before they are lost; only where max_slot_wal_keep_size sets a limit.
SELECT s.slot_name AS name, s.active, s.safe_wal_size::float8 AS left_bytes, k.bytes AS kept_max
FROM pg_replication_slots s,
    (SELECT setting::float8 * 1048576 AS bytes FROM pg_settings WHERE name = 'max_slot_wal_keep_size') k
WHERE s.safe_wal_size IS NOT NULL AND k.bytes > 0 ORDER BY s.safe_wal_size, 1 LIMIT 100;

-- name: synchronous
-- For whom a commit waits, whether it does, and who confirms.
SELECT
    current_setting('synchronous_standby_names') AS names, current_setting('synchronous_commit') AS "commit",
    pg_is_in_recovery() AS in_recovery,
    (
        SELECT coalesce(array_agg(application_name::text ORDER BY application_name), array[]::text[])
        FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')
    ) AS confirming,
    (SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep') AS waiting;

-- name: traffic
-- What this database committed, rolled back and wrote to temporary files, since when; what of those lies there now.
SELECT
    xact_commit::float8 AS committed, xact_rollback::float8 AS rolled_back,
    temp_files::float8 AS files, temp_bytes::float8 AS temp_bytes,
    (SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir())::float8 AS temp_now,
    extract(epoch FROM clock_timestamp() - coalesce(
        stats_reset, (SELECT stats_reset FROM pg_stat_bgwriter)
    ))::float8 AS seconds
FROM pg_stat_database WHERE datname = current_database();

-- name: conflicts
-- Queries that replay cancelled on a standby, because they needed what it had to remove, since when.
SELECT
    c.confl_tablespace::float8 AS tablespace, c.confl_lock::float8 AS "lock", c.confl_snapshot::float8 AS snapshot,
    c.confl_bufferpin::float8 AS buffer_pin, c.confl_deadlock::float8 AS deadlock,
    extract(epoch FROM clock_timestamp() - coalesce(
        d.stats_reset, (SELECT stats_reset FROM pg_stat_bgwriter)
    ))::float8 AS seconds
FROM pg_stat_database_conflicts c JOIN pg_stat_database d USING (datid) WHERE c.datname = current_database();
