-- name: sequences
-- Sequences that can come to their end, and the integer columns that are filled from them: by ownership, by a default, or
-- because they refer to a column that is. `last` is NULL where the sequence was not used yet, or may not be read. The 100
-- nearest to their end, and 100 of those that may not be read.
WITH fed AS MATERIALIZED (
    SELECT s.seqrelid, d.refobjid AS rel, d.refobjsubid::int2 AS att
    FROM pg_sequence s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.objsubid = 0
    WHERE d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION
    SELECT s.seqrelid, a.adrelid, a.adnum
    FROM pg_sequence s
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.seqrelid AND d.classid = 'pg_attrdef'::regclass
    JOIN pg_attrdef a ON a.oid = d.objid
), columns AS (
    SELECT * FROM fed
    UNION
    SELECT f.seqrelid, k.conrelid, k.conkey[1]
    FROM fed f JOIN pg_constraint k ON k.contype = 'f' AND k.confrelid = f.rel AND k.confkey = ARRAY[f.att]
), narrow AS (
    SELECT
        c.seqrelid, c.rel, c.att, a.attname, CASE a.atttypid WHEN 21 THEN 32767 ELSE 2147483647 END::float8 AS most
    FROM columns c JOIN pg_attribute a ON a.attrelid = c.rel AND a.attnum = c.att AND a.atttypid IN (21, 23)
), chosen AS MATERIALIZED (
    SELECT
        s.seqrelid, n.rel, n.attname, s.seqincrement > 0 AS ascending, s.seqcycle AS cycles,
        s.seqmin::float8 AS least, s.seqmax::float8 AS greatest, n.most,
        has_sequence_privilege(s.seqrelid, 'USAGE') OR has_sequence_privilege(s.seqrelid, 'SELECT') AS readable
    FROM pg_sequence s JOIN pg_class q ON q.oid = s.seqrelid AND q.relpersistence = 'p'
    LEFT JOIN narrow n ON n.seqrelid = s.seqrelid
    WHERE n.seqrelid IS NOT NULL OR CASE WHEN s.seqincrement > 0 THEN s.seqmax < 2 ^ 53 ELSE s.seqmin > -(2 ^ 53) END
    ORDER BY s.seqrelid LIMIT 5000
), valued AS MATERIALIZED (
    SELECT
        c.*, CASE WHEN c.readable THEN pg_sequence_last_value(c.seqrelid) END::float8 AS last,
        greatest(t.reltuples, pg_stat_get_live_tuples(t.oid), 0)::float8 AS rows, t.relname, t.relnamespace
    FROM chosen c LEFT JOIN pg_class t ON t.oid = c.rel
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY readable ORDER BY greatest(
            CASE WHEN ascending THEN last - least ELSE greatest - last END / nullif(greatest - least, 0),
            abs(last) / most, CASE WHEN NOT readable THEN rows / most END, 0
        ) DESC, seqrelid
    ) AS place FROM valued
)
SELECT
    quote_ident(sn.nspname) || '.' || quote_ident(q.relname) AS name, quote_ident(sn.nspname) AS schema,
    coalesce(quote_ident(tn.nspname) || '.' || quote_ident(r.relname), '') AS table,
    coalesce(quote_ident(r.attname), '') AS column, r.rows,
    r.ascending, r.cycles, r.least, r.greatest, r.most, r.readable, r.last
FROM ranked r
JOIN pg_class q ON q.oid = r.seqrelid JOIN pg_namespace sn ON sn.oid = q.relnamespace
LEFT JOIN pg_namespace tn ON tn.oid = r.relnamespace
WHERE r.place <= 100
ORDER BY r.place, 1, 3, 4;

-- name: foreign_keys
-- Foreign keys of tables with some pages that no index serves: one that begins with their columns, in any order. Sizes
-- are of the statistics, or guessed by the rows that were counted. `deleted` is how many rows the other table lost.
WITH keys AS MATERIALIZED (
    SELECT
        k.conname, k.conrelid, k.confrelid, k.conkey, c.relname, c.relnamespace,
        greatest(
            c.relpages * current_setting('block_size')::float8, 48 * coalesce(pg_stat_get_live_tuples(c.oid), 0)
        ) AS bytes
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype = 'f' AND c.relkind = 'r' AND (c.relpages >= 32 OR pg_stat_get_live_tuples(c.oid) >= 10000)
)
SELECT
    quote_ident(k.conname) AS name, format('%I.%I', n.nspname, k.relname) AS table,
    (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.place)
        FROM unnest(k.conkey) WITH ORDINALITY x (att, place)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.att
    ) AS columns,
    format('%I.%I', pn.nspname, p.relname) AS parent, k.bytes, pg_stat_get_tuples_deleted(p.oid)::float8 AS deleted
FROM keys k
JOIN pg_namespace n ON n.oid = k.relnamespace
JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid AND x.relam IN (403, 405)  -- btree, hash
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE i.indrelid = k.conrelid AND i.indisvalid
        AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
        AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] <@ k.conkey
        AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname))
)
ORDER BY k.bytes DESC, 2, 1 LIMIT 500;
