-- name: described
-- Indexes with what it takes to make them again. `foreign`: a foreign key of the table begins with the same columns, so
-- that whoever deletes what it points at needs it.
SELECT
    x.nspname || '.' || c.relname AS name, x.nspname AS schema, c.relname AS plain,
    format('%%I.%%I', x.nspname, c.relname) AS quoted, tn.nspname AS table_schema, t.relname AS "table",
    coalesce((SELECT attname FROM pg_attribute WHERE attrelid = t.oid AND attnum = i.indkey[0]), '') AS first,
    pg_get_indexdef(i.indexrelid) AS definition, pg_relation_size(c.oid)::float8 AS bytes,
    EXISTS (
        SELECT FROM pg_constraint o
        WHERE o.conrelid = i.indrelid AND o.contype = 'f' AND o.conkey = (
            SELECT array_agg(k.attnum ORDER BY k.place)
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) WHERE k.place <= cardinality(o.conkey)
        )
    ) AS "foreign"
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace x ON x.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE x.nspname || '.' || c.relname = ANY (%(names)s) AND c.relkind = 'i' AND NOT c.relispartition
    AND NOT (i.indisunique OR i.indisexclusion OR i.indisreplident OR i.indisprimary)
    AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid)
ORDER BY 1 LIMIT 1000;
