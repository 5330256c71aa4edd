-- name: release
-- Which PostgreSQL it is, and whether it is the primary.
SELECT current_setting('server_version_num')::int AS number, pg_is_in_recovery() AS in_recovery;

-- name: extensions
-- The extensions of this database, the schema of each, and what the server has loaded.
SELECT
    e.extname AS name, n.nspname AS schema,
    e.extname <> 'pg_stat_statements'
        OR coalesce(current_setting('shared_preload_libraries', true), '') LIKE '%pg_stat_statements%' AS loaded
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1 LIMIT 1000;
