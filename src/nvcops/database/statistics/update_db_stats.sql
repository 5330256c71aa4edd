-- name: kept
-- What stands of a table on the live server: its columns' targets, its statistics over several columns, its last analysis.
SELECT coalesce((SELECT json_object_agg(a.attname, coalesce(a.attstattarget, -1)) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attname = ANY (%(columns)s) AND NOT a.attisdropped), '{}')::text AS targets,
       coalesce((SELECT json_agg(e.stxname) FROM pg_statistic_ext e WHERE e.stxrelid = c.oid), '[]')::text AS extended,
       greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed
FROM pg_class c WHERE c.oid = to_regclass(%(table)s)
