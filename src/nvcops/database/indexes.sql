-- name: indexes
-- Every index of the users' tables, and whether queries may use it.
SELECT n.nspname || '.' || c.relname AS name, i.indisvalid AND i.indisready AS valid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') ORDER BY 1 LIMIT 10000;
