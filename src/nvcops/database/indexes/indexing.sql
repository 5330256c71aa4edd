-- name: standing
-- The indexes of these names, and whether queries may use them.
SELECT n.nspname AS schema, c.relname AS name, i.indisvalid AND i.indisready AS valid,
       coalesce(s.idx_scan, 0)::float8 AS scans, pg_relation_size(c.oid)::float8 AS bytes
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS asked (schema, name)
JOIN pg_namespace n ON n.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'i'
JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = c.oid
ORDER BY 1, 2 LIMIT 1000;

-- name: leftovers
-- Indexes of ours that were never finished.
SELECT format('%I.%I', n.nspname, c.relname) AS quoted
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname LIKE 'nvcops\_%' AND NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1 LIMIT 100;
