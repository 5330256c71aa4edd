-- name: tables
-- The tables with the most dead rows.
SELECT format('%I.%I', n.nspname, c.relname) AS name, pg_stat_get_live_tuples(c.oid)::float8 AS live, c.dead
FROM (
    SELECT oid, relname, relnamespace, pg_stat_get_dead_tuples(oid)::float8 AS dead
    FROM pg_class WHERE relkind IN ('r', 'm') AND oid >= 16384  -- below, it is the system's own
) c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.dead >= 1000 ORDER BY c.dead DESC, 1 LIMIT 1000;

-- name: never_analyzed
-- Large tables that have no statistics: nobody ever analysed them.
WITH locked AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks
    WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT * FROM (
    SELECT
        format('%I.%I', n.nspname, c.relname) AS name,
        pg_stat_get_live_tuples(c.oid)::float8 AS rows,
        -- asking for the size of a table that is locked would make us wait
        CASE WHEN c.oid IN (SELECT relation FROM locked) THEN 0 ELSE coalesce(pg_relation_size(c.oid), 0) END::float8 AS bytes
    FROM (
        SELECT oid, relname, relnamespace FROM pg_class
        WHERE relkind IN ('r', 'm') AND relpersistence <> 't'
            AND (reltuples < 0 OR pg_stat_get_mod_since_analyze(oid) >= greatest(pg_stat_get_live_tuples(oid), 1))
            AND pg_stat_get_last_analyze_time(oid) IS NULL AND pg_stat_get_last_autoanalyze_time(oid) IS NULL
        ORDER BY pg_stat_get_live_tuples(oid) DESC, oid LIMIT 1000
    ) c JOIN pg_namespace n ON n.oid = c.relnamespace
) sized ORDER BY bytes DESC, name LIMIT 100;

-- name: large
-- The largest tables: what they take, what the counters say of their rows, and what the statistics say that rows take.
-- `width` is of a whole row; columns of varying width stand in pg_stats, which shows only tables that we may read: NULL.
-- `unseen` is how many pages somebody must read at most who wants to know how full the table is.
WITH counted AS MATERIALIZED (
    SELECT
        oid, relkind, relname, relnamespace, relpages::float8, reltuples::float8, relallvisible::float8, reloptions,
        pg_stat_get_live_tuples(oid)::float8 AS live, pg_stat_get_dead_tuples(oid)::float8 AS dead,
        pg_stat_get_mod_since_analyze(oid)::float8 AS modified, pg_stat_get_ins_since_vacuum(oid)::float8 AS inserted
    FROM pg_class WHERE relkind IN ('r', 'm', 't') AND relpersistence <> 't' AND relam = 2
), locked AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks
    WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), largest AS MATERIALIZED (
    SELECT
        counted.*, oid IN (SELECT relation FROM locked) AS locked,
        coalesce(pg_stat_get_last_analyze_time(oid), pg_stat_get_last_autoanalyze_time(oid)) IS NOT NULL AS analyzed,
        coalesce(pg_stat_get_last_vacuum_time(oid), pg_stat_get_last_autovacuum_time(oid)) IS NOT NULL AS vacuumed
    FROM counted WHERE relpages >= 128 OR live + dead >= 10000
    ORDER BY greatest(relpages, (live + dead) / 100) DESC, oid LIMIT 200
), sized AS MATERIALIZED (
    SELECT
        *, current_setting('block_size')::float8 AS block,
        CASE WHEN locked THEN relpages * current_setting('block_size')::float8 ELSE coalesce(pg_relation_size(oid), 0) END::float8
            AS bytes
    FROM largest
), known AS MATERIALIZED (
    SELECT
        s.*, (SELECT option_value::float8 FROM pg_options_to_table(s.reloptions) WHERE option_name = 'fillfactor') AS fill,
        least(bytes / block, CASE
            WHEN vacuumed THEN greatest(relpages - relallvisible, 0) + 2 * dead + inserted * relpages / greatest(reltuples, 1)
                + greatest(bytes / block - relpages, 0)
            ELSE bytes / block
        END) AS unseen,
        (
            SELECT CASE WHEN bool_and(a.attlen > 0 OR p.avg_width IS NOT NULL) THEN
                28 + 8 * ceil(sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE p.avg_width * (1 - p.null_frac) END) / 8)
            END
            FROM pg_attribute a
            LEFT JOIN LATERAL (
                SELECT avg_width, null_frac FROM pg_stats
                WHERE has_column_privilege(s.oid, a.attnum, 'SELECT') AND a.attlen < 0
                    AND schemaname = s.relnamespace::regnamespace::name AND tablename = s.relname AND attname = a.attname
                ORDER BY inherited LIMIT 1
            ) p ON true
            WHERE a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped AND s.relkind <> 't'
        )::float8 AS width
    FROM sized s
), judged AS MATERIALIZED (
    SELECT *, analyzed AND reltuples >= 0 AND modified <= 0.1 * greatest(live, reltuples) AS fresh FROM known
)
SELECT
    j.oid::int8 AS oid, format('%I.%I', n.nspname, coalesce(o.relname, j.relname)) AS name, j.relkind = 't' AS toast,
    j.bytes, j.block, greatest(j.reltuples, 0) AS rows, j.live, j.dead, j.fresh, j.locked, j.unseen, j.width,
    coalesce(j.fill / 100, 1) AS fill, j.live + j.dead > 0 AND (j.vacuumed OR j.analyzed OR j.reltuples < 0) AS counted
FROM judged j
LEFT JOIN pg_class o ON j.relkind = 't' AND o.reltoastrelid = j.oid
JOIN pg_namespace n ON n.oid = coalesce(o.relnamespace, j.relnamespace);

-- name: measured
-- How full tables are whose statistics are old, or do not tell. Only pages that vacuum has not seen are read: at some
-- 70 us, the others at 1.5 us. A table that would take more than 0.15 s is left out, and none is begun after 0.25 s.
WITH large AS MATERIALIZED ({large}), chosen AS MATERIALIZED (
    SELECT * FROM large
    WHERE NOT locked AND bytes >= 2097152 AND (NOT fresh OR width IS NULL)
        AND unseen * 7e-5 + bytes / block * 1.5e-6 <= 0.15
    ORDER BY fresh, bytes DESC, name LIMIT 100
)
SELECT
    c.oid, m.table_len::float8 AS bytes, (m.approx_tuple_len + 4 * m.approx_tuple_count)::float8 AS needed
FROM chosen c
CROSS JOIN LATERAL (SELECT c.oid WHERE clock_timestamp() < statement_timestamp() + interval '0.25 s' OFFSET 0) next
CROSS JOIN LATERAL {pgstattuple}.pgstattuple_approx(next.oid::oid::regclass) m;
