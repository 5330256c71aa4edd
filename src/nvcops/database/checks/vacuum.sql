-- name: autovacuum
-- Whether autovacuum works at all, how many of its workers are busy and how many there may be.
SELECT
    current_setting('autovacuum') = 'on' AS enabled, current_setting('track_counts') = 'on' AS counting,
    current_setting('autovacuum_max_workers')::int AS workers_max,
    (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'autovacuum worker') AS workers;

-- name: switched_off
-- Tables whose own options switch autovacuum off.
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND EXISTS (
    SELECT FROM pg_options_to_table(c.reloptions)
    WHERE option_name = 'autovacuum_enabled' AND lower(option_value) IN ('false', 'off', 'no', '0', 'f', 'n')
)
ORDER BY c.relpages DESC, 1 LIMIT 100;

-- name: overdue
-- Tables with what was changed in them since they were vacuumed and analysed, beside the numbers at which autovacuum
-- comes: threshold + scale factor * rows, by the table's own options or the server's (from PostgreSQL 18 on at most a
-- maximum, and of inserts only for the part that is not frozen).
WITH counted AS MATERIALIZED (
    SELECT
        c.oid, greatest(c.reltuples, 0)::float8 AS rows, pg_stat_get_dead_tuples(c.oid)::float8 AS dead,
        pg_stat_get_ins_since_vacuum(c.oid)::float8 AS inserted, pg_stat_get_mod_since_analyze(c.oid)::float8 AS modified
    FROM pg_class c WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't'
), changed AS MATERIALIZED (
    SELECT * FROM counted WHERE greatest(dead, inserted, modified) >= 1000
    ORDER BY greatest(dead, inserted, modified) / (rows + 1000) DESC LIMIT 2000
), chosen AS (
    SELECT
        changed.*, c.relkind, c.relname, c.relnamespace,
        coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8) AS threshold,
        coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8) AS scale,
        coalesce(o.most, current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1) AS most,
        coalesce(o.insert_threshold, current_setting('autovacuum_vacuum_insert_threshold')::float8) AS insert_threshold,
        coalesce(o.insert_scale, current_setting('autovacuum_vacuum_insert_scale_factor')::float8) AS insert_scale,
        coalesce(o.analyze_threshold, current_setting('autovacuum_analyze_threshold')::float8) AS analyze_threshold,
        coalesce(o.analyze_scale, current_setting('autovacuum_analyze_scale_factor')::float8) AS analyze_scale,
        coalesce(lower(o.enabled) NOT IN ('false', 'off', 'no', '0', 'f', 'n'), true) AS enabled,
        coalesce(1 - (to_jsonb(c) ->> 'relallfrozen')::float8 / nullif(c.relpages, 0), 1) AS unfrozen
    FROM changed JOIN pg_class c ON c.oid = changed.oid
    LEFT JOIN LATERAL (
        SELECT
            max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold')::float8 AS threshold,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor')::float8 AS scale,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_max_threshold')::float8 AS most,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_insert_threshold')::float8 AS insert_threshold,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_insert_scale_factor')::float8 AS insert_scale,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_analyze_threshold')::float8 AS analyze_threshold,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_analyze_scale_factor')::float8 AS analyze_scale,
            max(option_value) FILTER (WHERE option_name = 'autovacuum_enabled') AS enabled
        FROM pg_options_to_table(c.reloptions)
    ) o ON true
), judged AS (
    SELECT
        *,
        CASE WHEN most >= 0 THEN least(threshold + scale * rows, most) ELSE threshold + scale * rows END AS vacuum_at,
        CASE WHEN insert_threshold >= 0 THEN insert_threshold + insert_scale * rows * unfrozen END AS insert_at,
        CASE WHEN relkind <> 't' THEN analyze_threshold + analyze_scale * rows END AS analyze_at
    FROM chosen
)
SELECT
    format('%I.%I', n.nspname, coalesce(o.relname, j.relname)) AS name, j.relkind = 't' AS toast,
    j.rows, j.dead, j.inserted, j.modified, j.vacuum_at, j.insert_at, j.analyze_at, j.enabled,
    extract(epoch FROM now() - greatest(pg_stat_get_last_vacuum_time(j.oid), pg_stat_get_last_autovacuum_time(j.oid)))::float8
        AS vacuumed_s,
    extract(epoch FROM now() - greatest(pg_stat_get_last_analyze_time(j.oid), pg_stat_get_last_autoanalyze_time(j.oid)))::float8
        AS analyzed_s,
    EXISTS (
        SELECT FROM pg_stat_progress_vacuum p JOIN pg_database d ON d.oid = p.datid
        WHERE p.relid = j.oid AND d.datname = current_database()
    ) AS running
FROM judged j
LEFT JOIN pg_class o ON j.relkind = 't' AND o.reltoastrelid = j.oid
JOIN pg_namespace n ON n.oid = coalesce(o.relnamespace, j.relnamespace)
ORDER BY greatest(j.dead / (j.vacuum_at + 1), j.inserted / (j.insert_at + 1), j.modified / (j.analyze_at + 1)) DESC LIMIT 500;

-- name: running
-- Vacuums that run now, the longest first: by whom, of what, how far, and how many sessions wait for their table.
SELECT
    p.pid, coalesce(a.backend_type = 'autovacuum worker', false) AS automatic,
    coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'a table of ' || quote_ident(p.datname), '') AS name, p.phase,
    coalesce(100.0 * p.heap_blks_scanned / nullif(p.heap_blks_total, 0), 0)::float8 AS percent,
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS took_s,
    (SELECT count(*)::int FROM pg_locks l WHERE NOT l.granted AND l.relation = p.relid AND l.database = p.datid) AS waiting
FROM pg_stat_progress_vacuum p
LEFT JOIN pg_stat_activity a ON a.pid = p.pid
LEFT JOIN pg_class c ON c.oid = p.relid AND p.datname = current_database()
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 6 DESC LIMIT 100;
