-- name: checksums
-- Whether pages have checksums, and the databases in which one did not fit ("" is what all databases share).
SELECT
    current_setting('data_checksums') = 'on' AS checked,
    coalesce((
        SELECT json_agg(json_build_object(
            'database', coalesce(datname, ''), 'failures', checksum_failures,
            'last', to_char(checksum_last_failure AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
        ) ORDER BY checksum_failures DESC)
        FROM pg_stat_database WHERE checksum_failures > 0
    ), '[]') AS failed;

-- name: unlogged
-- Tables that a crash empties and that no standby has; of a partitioned table, the one above stands for its partitions.
SELECT DISTINCT n.nspname || '.' || c.relname AS "table", format('%I.%I', n.nspname, c.relname) AS quoted
FROM pg_class u
JOIN pg_class c ON c.oid = coalesce(CASE WHEN u.relispartition THEN pg_partition_root(u.oid) END, u.oid)
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE u.relpersistence = 'u' AND u.relkind = 'r' AND u.oid >= 16384 ORDER BY 1 LIMIT 1000;

-- name: unvalidated
-- Constraints that hold for new rows only, or (from PostgreSQL 18) for none.
SELECT
    n.nspname || '.' || t.relname AS "table", format('%I.%I', n.nspname, t.relname) AS quoted,
    o.conname AS name, quote_ident(o.conname) AS quoted_name,
    coalesce(to_jsonb(o) ->> 'conenforced', 'true') = 'true' AS enforced
FROM pg_constraint o JOIN pg_class t ON t.oid = o.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE NOT o.convalidated AND o.conparentid = 0 AND o.oid >= 16384 ORDER BY 1, 3 LIMIT 1000;

-- name: disabled
-- Triggers that do not fire: somebody's own, or those by which foreign keys are kept.
SELECT
    n.nspname || '.' || t.relname AS "table", format('%I.%I', n.nspname, t.relname) AS quoted,
    bool_or(g.tgisinternal) AS internal, string_agg(g.tgname, ', ' ORDER BY g.tgname) AS names
FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE g.tgenabled IN ('D', 'R') AND g.tgparentid = 0 AND g.oid >= 16384
GROUP BY n.nspname, t.relname ORDER BY 1 LIMIT 1000;
