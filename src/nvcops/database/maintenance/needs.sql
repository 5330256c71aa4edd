-- Every query runs with pg_monitor alone, on PostgreSQL 15 to 18.

-- name: aged
-- Tables whose rows must be frozen in a while: their age in transactions and in multixacts as a share of the age at which
-- autovacuum does it by itself, whatever else goes on.
SELECT name, share, age FROM (
    SELECT
        format('%I.%I', n.nspname, c.relname) AS name, greatest(age(c.relfrozenxid), age(t.relfrozenxid))::float8 AS age,
        greatest(
            greatest(age(c.relfrozenxid), age(t.relfrozenxid))::float8
                / current_setting('autovacuum_freeze_max_age')::float8,
            greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid))::float8
                / current_setting('autovacuum_multixact_freeze_max_age')::float8
        ) AS share
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384
) all_of_them WHERE share >= 0.5 ORDER BY share DESC, name LIMIT 200;

-- name: parents
-- Partitioned tables, which autovacuum never analyses: how many partitions they have, how long ago they were analysed
-- (NULL: never since the counters began), and whether a partition was analysed since, as one is that changes. Those that
-- were analysed with it were so a moment later. `locks` is how many the server has room for: an ANALYZE of it takes one of
-- each partition and its indexes.
SELECT
    format('%I.%I', n.nspname, p.relname) AS name, tree.partitions,
    current_setting('max_locks_per_transaction')::int
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) AS locks,
    extract(epoch FROM clock_timestamp() - tree.parent)::float8 AS analyzed_s,
    coalesce(tree.newest > coalesce(tree.parent, '-infinity'), false) AS changed
FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE t.isleaf)::int AS partitions,
        pg_stat_get_last_analyze_time(p.oid) AS parent,
        max(greatest(
            pg_stat_get_last_analyze_time(t.relid) - interval '10 minutes', pg_stat_get_last_autoanalyze_time(t.relid)
        )) FILTER (WHERE t.isleaf) AS newest
    FROM pg_partition_tree(p.oid) t
) tree
WHERE p.relkind = 'p' AND NOT p.relispartition AND p.relpersistence <> 't'
ORDER BY tree.parent NULLS FIRST, 1 LIMIT 200;

-- name: leftovers
-- What a stopped REINDEX CONCURRENTLY left: indexes that no query may use and every write keeps up to date.
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)[0-9]*$'
    AND n.nspname <> 'pg_toast'  -- where nobody but a superuser reaches it
ORDER BY 1 LIMIT 100;

-- name: invalid
-- Indexes that no query may use because their making was stopped, each with the bytes that it has.
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relpages * 8192.0::float8 AS bytes
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready) AND c.relkind = 'i' AND i.indrelid >= 16384 AND n.nspname <> 'pg_toast'
    AND c.relname !~ '_cc(new|old)[0-9]*$'
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
ORDER BY 1 LIMIT 100;

-- name: table
-- The table that is asked for by its name, with the schema where it does not stand in public.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%(name)s) AND c.relkind IN ('r', 'p', 'm');

-- name: indexes_of
-- All indexes of a table that can be built anew, each with the bytes that it has.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, c.relpages * 8192.0::float8 AS bytes
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = to_regclass(%(name)s) AND NOT i.indisexclusion ORDER BY c.relpages DESC, 1 LIMIT 100;

-- name: measured
-- How tables or indexes are: rows alive, dead, and changed since they were analysed, age of the oldest row that is not
-- frozen, bytes, whether queries may use it (an index), and how often it was vacuumed and analysed by hand.
SELECT
    named.name, greatest(c.reltuples, 0)::float8 AS rows,
    (pg_stat_get_dead_tuples(c.oid) + coalesce(pg_stat_get_dead_tuples(nullif(c.reltoastrelid, 0)), 0))::float8 AS dead,
    pg_stat_get_mod_since_analyze(c.oid)::float8 AS modified,
    CASE WHEN c.relkind IN ('r', 'm') THEN
        greatest(age(c.relfrozenxid), (SELECT age(t.relfrozenxid) FROM pg_class t WHERE t.oid = c.reltoastrelid)) ELSE 0
    END::float8 AS age,
    c.relpages * 8192.0::float8 AS bytes, coalesce(i.indisvalid AND i.indisready, true) AS valid, c.relkind = 'p' AS partitioned,
    pg_stat_get_vacuum_count(c.oid)::int AS vacuums, pg_stat_get_analyze_count(c.oid)::int AS analyses
FROM unnest(%(names)s::text[]) AS named (name)
JOIN pg_class c ON c.oid = to_regclass(named.name) LEFT JOIN pg_index i ON i.indexrelid = c.oid
ORDER BY 1;
