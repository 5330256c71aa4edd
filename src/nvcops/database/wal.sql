-- name: cache_hit
-- Blocks found in shared buffers and blocks read from outside, since the statistics were reset.
SELECT blks_hit::float8 AS hit, blks_read::float8 AS read FROM pg_stat_database WHERE datname = current_database();
