-- name: release
-- Which PostgreSQL it is, and whether it is the primary.
SELECT current_setting('server_version_num')::int AS number, pg_is_in_recovery() AS in_recovery;

-- name: extensions
-- The extensions of this database, the schema of each, and whether we can use it: loaded where the server must have loaded
-- it, allowed where it is not for everybody. What the server's own files say is granted like one.
SELECT
    e.extname AS name, n.nspname AS schema,
    CASE
        WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN false
        WHEN e.extname = 'pg_stat_statements' AND pg_has_role('pg_read_all_settings', 'USAGE') THEN
            coalesce(current_setting('shared_preload_libraries', true), '') LIKE '%pg_stat_statements%'
        WHEN e.extname = 'pgstattuple' THEN
            coalesce(has_function_privilege(to_regprocedure(format('%I.pgstatindex(regclass)', n.nspname)), 'EXECUTE'), false)
        ELSE true
    END AS loaded
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
UNION ALL
SELECT
    'pg_file_settings', 'pg_catalog',
    has_table_privilege('pg_catalog.pg_file_settings', 'SELECT')
        AND has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE')
ORDER BY 1 LIMIT 1000;
