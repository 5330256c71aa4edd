-- name: writes
-- What was written to each table since the server began to count, and how many indexes it has.
SELECT s.schemaname AS schema, s.relname AS table, s.n_tup_ins::float8 AS inserts, s.n_tup_upd::float8 AS updates,
       s.n_tup_hot_upd::float8 AS hot, (SELECT count(*)::int FROM pg_index i WHERE i.indrelid = s.relid) AS indexes,
       coalesce(extract(epoch FROM clock_timestamp() - d.stats_reset), 0)::float8 AS counted_s
FROM pg_stat_user_tables s, pg_stat_database d
WHERE d.datname = current_database() AND s.n_tup_ins + s.n_tup_upd > 0
ORDER BY s.n_tup_ins + s.n_tup_upd DESC LIMIT 5000;

-- name: bodies
-- The bodies of functions that update something.
SELECT p.prosrc AS body FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prosrc ~* '\mupdate\M' AND length(p.prosrc) < 100000
ORDER BY p.oid LIMIT 1000;
