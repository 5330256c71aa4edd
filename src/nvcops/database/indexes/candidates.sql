-- name: indexable
-- The columns of these tables that a b-tree can hold: ordinary tables that are no partition, narrow enough, sortable.
SELECT n.nspname AS schema, c.relname AS table, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS asked (schema, name)
JOIN pg_namespace n ON n.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind = 'r' AND NOT c.relispartition
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND coalesce(s.avg_width, 0) <= %(width_max)s
  AND (t.typtype = 'e' OR EXISTS (
    SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
    WHERE o.opcdefault AND o.opcintype IN (
      t.oid, b.oid, CASE WHEN coalesce(b.oid, t.oid) = 'varchar'::regtype THEN 'text'::regtype::oid END)))
GROUP BY n.nspname, c.relname LIMIT 10000;
