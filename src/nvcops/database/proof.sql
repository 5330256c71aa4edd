-- name: built
-- Bytes of the indexes of these names, and whether the planner may use them.
SELECT n.nspname AS schema, c.relname AS name, pg_relation_size(c.oid) AS bytes, i.indisvalid AS valid
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS asked (schema, name)
JOIN pg_namespace n ON n.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'i'
JOIN pg_index i ON i.indexrelid = c.oid LIMIT 10000;

-- name: show
-- Of the indexes on trial, the planner is to see these alone.
UPDATE pg_catalog.pg_index i SET indisvalid = {shown}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = i.indexrelid AND (n.nspname, c.relname) IN ({on_trial});
