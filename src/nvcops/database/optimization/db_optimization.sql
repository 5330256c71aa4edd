-- name: settings
-- The settings that may be tried, as the server runs now: the value in its own unit, and whether a change needs a restart.
SELECT name, setting AS value, coalesce(unit, '') AS unit, context,
    coalesce(sourcefile LIKE '%postgresql.auto.conf', false) AS altered
FROM pg_settings WHERE name IN (
    'work_mem', 'hash_mem_multiplier', 'random_page_cost', 'jit', 'effective_cache_size', 'shared_buffers',
    'max_parallel_workers_per_gather', 'max_wal_size', 'wal_compression', 'effective_io_concurrency'
) ORDER BY 1;

-- name: activity
-- What the server did since its statistics began: temporary files, blocks found and read.
SELECT temp_bytes::float8 AS temp_bytes, temp_files::float8 AS temp_files,
    blks_hit::float8 AS hit, blks_read::float8 AS read,
    extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time()))::float8 AS since_s
FROM pg_stat_database WHERE datname = current_database();

-- name: churned
-- Tables whose rows change much: how many are dead, and how many updates had to touch the indexes too.
SELECT schemaname AS schema, relname AS table, n_live_tup::float8 AS live, n_dead_tup::float8 AS dead,
    n_tup_upd::float8 AS updates, n_tup_hot_upd::float8 AS hot,
    coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
              WHERE option_name = 'autovacuum_vacuum_scale_factor'), '') AS scale_factor,
    coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), '') AS fillfactor
FROM pg_stat_user_tables t JOIN pg_class c ON c.oid = t.relid
WHERE c.relkind = 'r' AND n_live_tup + n_dead_tup >= 10000 AND (n_dead_tup > 0.05 * n_live_tup OR n_tup_upd >= 10000)
ORDER BY n_dead_tup + n_tup_upd DESC LIMIT 20;

-- name: connections
-- The client sessions there are, and how many of them were at work at once.
SELECT count(*)::int AS sessions, (count(*) FILTER (WHERE state = 'active'))::int AS active,
    current_setting('max_connections')::int AS most
FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database();

-- name: aged
-- Large tables from which rows are removed, and their column of time: what is old goes row by row.
SELECT t.schemaname AS schema, t.relname AS table,
    (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) ORDER BY a.attnum LIMIT 1) AS column,
    t.n_live_tup::float8 AS live, t.n_tup_del::float8 AS deleted, pg_table_size(t.relid)::float8 AS bytes
FROM pg_stat_user_tables t JOIN pg_class c ON c.oid = t.relid
WHERE c.relkind = 'r' AND NOT c.relispartition AND t.n_live_tup >= 100000 AND t.n_tup_del >= 0.1 * t.n_live_tup
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype))
ORDER BY t.n_tup_del DESC LIMIT 5;
