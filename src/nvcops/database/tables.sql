-- name: tables
-- The tables with the most dead rows, and how they are read.
SELECT
    schemaname || '.' || relname AS name, n_live_tup::float8 AS live, n_dead_tup::float8 AS dead,
    coalesce(seq_scan, 0)::float8 AS scans, coalesce(seq_tup_read, 0)::float8 AS scanned,
    coalesce(idx_scan, 0)::float8 AS lookups,
    pg_relation_size(relid)::float8 AS bytes
FROM pg_stat_user_tables ORDER BY n_dead_tup DESC, 1 LIMIT 1000;
