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

-- name: remember
-- Which indexes the backup had, and which of them were valid: remembered on the copy itself.
CREATE TABLE nvcops_trial.found AS SELECT i.indexrelid, i.indisvalid FROM pg_catalog.pg_index i;

-- name: show_found
-- The backup's own indexes are as valid as they were.
UPDATE pg_catalog.pg_index i SET indisvalid = f.indisvalid
FROM nvcops_trial.found f WHERE f.indexrelid = i.indexrelid AND f.indisvalid <> i.indisvalid;

-- name: made_since
-- The indexes that a trial has made since.
SELECT format('DROP INDEX IF EXISTS %I.%I', n.nspname, c.relname) AS drop
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname LIKE 'nvcops\_%' AND NOT EXISTS (SELECT FROM nvcops_trial.found f WHERE f.indexrelid = i.indexrelid)
LIMIT 1000;

-- name: remembered
-- Whether a trial was begun on this copy before.
SELECT to_regclass('nvcops_trial.found') IS NOT NULL AS begun;
