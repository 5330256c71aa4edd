-- Relation sizes are those of the last vacuum, analyze or build (relpages): asking the file would wait for whoever holds
-- a relation with AccessExclusive. Of a partitioned table's indexes, the one above stands for those of its partitions.

-- name: indexes
-- Every index of the users' tables, and whether queries may use it; of one that they may not use, more. Those of partitions
-- come last.
SELECT
    n.nspname || '.' || c.relname AS name, i.indisvalid AND i.indisready AS valid,
    CASE WHEN NOT (i.indisvalid AND i.indisready) THEN format('%I.%I', n.nspname, c.relname) END AS quoted,
    CASE WHEN NOT (i.indisvalid AND i.indisready) THEN tn.nspname || '.' || t.relname END AS "table"
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
ORDER BY i.indisvalid AND i.indisready, c.relispartition, 1 LIMIT 10000;

-- name: redundant
-- Indexes that another one of the same table makes superfluous: the same again, or the beginning of its columns. Never one
-- that is unique, belongs to a constraint or is the replica's identity, nor one of another kind, order, collation, operator
-- class, predicate or with other columns beside the key.
WITH known AS MATERIALIZED (
    SELECT
        i.*, c.relname, c.relnamespace, c.relam, c.relpages, c.relispartition,
        i.indkey::text AS keys, i.indclass::text AS classes, i.indcollation::text AS collations,
        i.indoption::text AS options,
        coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
        coalesce(pg_get_expr(i.indexprs, i.indrelid), '') AS expressions
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indisvalid AND i.indisready AND i.indislive AND i.indrelid >= 16384
        AND NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attoptions IS NOT NULL
        )
)
SELECT
    n.nspname || '.' || a.relname AS name, format('%I.%I', n.nspname, a.relname) AS quoted,
    n.nspname || '.' || b.relname AS other, a.keys = b.keys AS same, a.relpages * 8192.0::float8 AS bytes
FROM known a
JOIN known b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid AND b.relam = a.relam
JOIN pg_namespace n ON n.oid = a.relnamespace
WHERE NOT (a.indisunique OR a.indisexclusion OR a.indisreplident OR a.relispartition)
    AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = a.indexrelid)
    AND a.predicate = b.predicate
    AND (
        a.keys = b.keys AND a.indnkeyatts = b.indnkeyatts AND a.classes = b.classes AND a.collations = b.collations
            AND a.options = b.options AND a.expressions = b.expressions
            AND (b.indisunique OR b.indisreplident OR b.indexrelid < a.indexrelid)
        OR a.indnatts = a.indnkeyatts AND b.indnatts = b.indnkeyatts AND a.expressions = '' AND b.expressions = ''
            AND a.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
            AND b.keys LIKE a.keys || ' %' AND b.classes LIKE a.classes || ' %'
            AND b.collations LIKE a.collations || ' %' AND b.options LIKE a.options || ' %'
    )
ORDER BY a.keys = b.keys DESC, a.relpages DESC, 1, 3 LIMIT 200;

-- name: unused
-- Indexes that no query has used since the server began to count, the largest first: never one that is unique, belongs to
-- a constraint or is the replica's identity. Asked of every server: one may be used on a standby alone.
SELECT
    n.nspname || '.' || c.relname AS name, format('%I.%I', n.nspname, c.relname) AS quoted,
    c.relpages * 8192.0::float8 AS bytes
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid >= 16384 AND i.indisvalid AND c.relkind = 'i' AND NOT c.relispartition
    AND NOT (i.indisunique OR i.indisexclusion OR i.indisreplident)
    AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid)
    AND pg_stat_get_numscans(i.indexrelid) = 0
ORDER BY c.relpages DESC, 1 LIMIT 200;

-- name: counted_since
-- For how long this server has counted what is used, and how many standbys replay from it.
SELECT
    extract(epoch FROM clock_timestamp() - coalesce(
        (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
        (SELECT stats_reset FROM pg_stat_bgwriter)
    ))::float8 AS seconds,
    (SELECT count(*)::int FROM pg_stat_replication WHERE replay_lsn IS NOT NULL) AS standbys;

-- name: scanned
-- The tables of which most rows were read from end to end, and how often that happened beside looking up.
SELECT
    n.nspname || '.' || c.relname AS name, pg_stat_get_numscans(c.oid)::float8 AS scans,
    pg_stat_get_tuples_returned(c.oid)::float8 AS scanned,
    coalesce((
        SELECT sum(pg_stat_get_numscans(i.indexrelid)) FROM pg_index i WHERE i.indrelid = c.oid
    ), 0)::float8 AS lookups,
    c.relpages * 8192.0::float8 AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpages >= 128 AND c.relkind IN ('r', 'm') AND c.oid >= 16384 AND pg_stat_get_numscans(c.oid) > 0
ORDER BY 3 DESC, 1 LIMIT 100;

-- name: bloat
-- The largest b-trees: pages that they have, and that their entries need at the density of a new one. Entries of fixed
-- width are known to all; the width of others stands in pg_stats, which shows only tables that we may read: NULL.
WITH largest AS MATERIALIZED (
    SELECT
        c.oid, n.nspname, c.relname, c.relpages, c.reltuples, i.indrelid, i.indkey,
        coalesce((
            SELECT option_value::float8 FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'
        ), 90) AS fillfactor
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    WHERE i.indisvalid AND i.indrelid >= 16384 AND c.relpages >= 128 AND c.reltuples >= 0
    ORDER BY c.relpages DESC LIMIT 100
), width AS (
    SELECT
        l.oid, bool_and(a.attlen > 0 OR s.avg_width IS NOT NULL) AS known,
        sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE s.avg_width END) AS bytes
    FROM largest l
    JOIN pg_attribute a ON a.attrelid = l.oid
    LEFT JOIN pg_class t ON t.oid = CASE WHEN l.indkey[a.attnum - 1] = 0 THEN l.oid ELSE l.indrelid END
    LEFT JOIN pg_attribute f ON f.attrelid = l.indrelid AND f.attnum = l.indkey[a.attnum - 1]
    LEFT JOIN LATERAL (
        SELECT avg_width FROM pg_stats
        WHERE a.attlen < 0 AND schemaname = t.relnamespace::regnamespace::name AND tablename = t.relname
            AND attname = coalesce(f.attname, a.attname)
        LIMIT 1
    ) s ON true
    GROUP BY l.oid
)
SELECT
    l.nspname || '.' || l.relname AS name, format('%I.%I', l.nspname, l.relname) AS quoted,
    l.relpages * 8192.0::float8 AS bytes,
    CASE WHEN w.known THEN
        8192 * (1 + ceil(1.01 * l.reltuples * (12 + 8 * ceil(w.bytes / 8.0)) / (8152 * l.fillfactor / 100)))
    END::float8 AS needed
FROM largest l JOIN width w ON w.oid = l.oid
ORDER BY l.relpages DESC, 1;

-- name: density
-- The b-trees that are read to know how full they are: the three most suspect of those up to 64 MiB, by what their table
-- lost in rows. One that somebody holds with AccessExclusive would make us wait, and is left out.
WITH suspect AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relpages, g.gone
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    CROSS JOIN LATERAL (
        SELECT pg_stat_get_tuples_deleted(i.indrelid) + pg_stat_get_tuples_updated(i.indrelid)
            - pg_stat_get_tuples_hot_updated(i.indrelid) AS gone
    ) g
    WHERE i.indisvalid AND i.indrelid >= 16384 AND c.relpersistence = 'p' AND c.relpages BETWEEN 128 AND 8192
        AND g.gone > 0.3 * greatest(c.reltuples, 0)
        AND NOT EXISTS (
            SELECT FROM pg_locks l
            WHERE l.relation IN (i.indexrelid, i.indrelid) AND l.mode = 'AccessExclusiveLock'
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        )
    ORDER BY g.gone DESC, c.relpages DESC LIMIT 3
)
SELECT
    s.nspname || '.' || s.relname AS name, format('%I.%I', s.nspname, s.relname) AS quoted,
    m.index_size::float8 AS bytes,
    (8192 * (1 + m.internal_pages
        + ceil(m.leaf_pages * coalesce(nullif(m.avg_leaf_density, 'NaN'), 0) / 90)))::float8 AS needed
FROM suspect s, LATERAL {pgstattuple}.pgstatindex(s.oid::regclass) m;
