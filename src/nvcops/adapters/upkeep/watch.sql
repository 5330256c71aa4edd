-- Every query runs with pg_monitor alone, on PostgreSQL 15 to 18; `{pid}` is the session that carries an order out.

-- name: watched
-- An order under way: whether it waits itself and for whom, who waits longest behind it, and how many blocks are done.
WITH ours AS (
    SELECT * FROM pg_locks WHERE pid = {pid}
), own AS (
    SELECT locktype, extract(epoch FROM clock_timestamp() - waitstart)::float8 AS waits_s
    FROM ours WHERE NOT granted ORDER BY waitstart LIMIT 1
), candidates AS (
    SELECT w.pid, min(w.waitstart) AS waitstart
    FROM pg_locks w
    JOIN ours o ON w.locktype = o.locktype AND w.database IS NOT DISTINCT FROM o.database
        AND w.relation IS NOT DISTINCT FROM o.relation AND w.page IS NOT DISTINCT FROM o.page
        AND w.tuple IS NOT DISTINCT FROM o.tuple AND w.virtualxid IS NOT DISTINCT FROM o.virtualxid
        AND w.transactionid IS NOT DISTINCT FROM o.transactionid AND w.classid IS NOT DISTINCT FROM o.classid
        AND w.objid IS NOT DISTINCT FROM o.objid AND w.objsubid IS NOT DISTINCT FROM o.objsubid
    LEFT JOIN pg_stat_activity a ON a.pid = w.pid
    WHERE NOT w.granted AND w.pid <> {pid} AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
    GROUP BY w.pid ORDER BY 2 LIMIT 20
), behind AS (
    SELECT pid, extract(epoch FROM clock_timestamp() - waitstart)::float8 AS waited_s
    FROM candidates WHERE {pid} = ANY (pg_blocking_pids(pid)) ORDER BY waitstart LIMIT 1
), progress AS (
    SELECT heap_blks_scanned AS done, heap_blks_total AS of, phase FROM pg_stat_progress_vacuum WHERE pid = {pid}
    UNION ALL
    SELECT blocks_done, blocks_total, phase FROM pg_stat_progress_create_index WHERE pid = {pid}
    UNION ALL
    SELECT sample_blks_scanned, sample_blks_total, phase FROM pg_stat_progress_analyze WHERE pid = {pid}
)
SELECT
    coalesce(own.locktype, '') AS waits_for, coalesce(own.waits_s, 0) AS waits_s,
    coalesce((
        SELECT string_agg(format('pid %s (%s, %s)', a.pid, a.usename, a.state), ', ' ORDER BY a.pid)
        FROM pg_stat_activity a WHERE own.locktype IS NOT NULL AND a.pid = ANY (pg_blocking_pids({pid}))
    ), '') AS blockers,
    coalesce(behind.pid, 0) AS behind, coalesce(behind.waited_s, 0) AS behind_s,
    coalesce(progress.phase, '') AS phase,
    coalesce(progress.done, 0) * current_setting('block_size')::bigint AS done,
    coalesce(progress.of, 0) * current_setting('block_size')::bigint AS of
FROM (SELECT 1) AS one
LEFT JOIN own ON true LEFT JOIN behind ON true LEFT JOIN progress ON true
LIMIT 1;

-- name: cancel
-- End what that session does; the session stays.
SELECT pg_cancel_backend({pid}) AS cancelled;

-- name: old_transactions
-- The oldest transaction of this database for which CONCURRENTLY would wait: of a session, or prepared.
SELECT format('pid %s (%s, %s, %s)', a.pid, a.usename, a.application_name, a.state) AS who,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age_s
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    AND a.xact_start < clock_timestamp() - {old_s} * interval '1 second'
    AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
    AND (
        a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL
        OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation >= 16384)
    )
UNION ALL
SELECT format('the prepared transaction %L (%s)', p.gid, p.owner), extract(epoch FROM clock_timestamp() - p.prepared)::float8
FROM pg_prepared_xacts p
WHERE p.database = current_database() AND p.prepared < clock_timestamp() - {old_s} * interval '1 second'
ORDER BY age_s DESC LIMIT 1;

-- name: leftovers
-- What a stopped REINDEX CONCURRENTLY leaves: indexes that no query may use, by the names that it gives them.
SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %I.%I', n.nspname, c.relname) AS clear
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)[0-9]*$' AND pg_has_role(c.relowner, 'USAGE')
    AND n.nspname <> 'pg_toast'  -- where nobody but a superuser reaches it
ORDER BY 1 LIMIT 100;

-- name: roles
-- Who owns the tables of this database, whether that is a superuser, and whether we are a member.
SELECT r.rolname AS owner, r.rolsuper AS superuser, pg_has_role(c.relowner, 'USAGE') AS held
FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY 1, 2, 3 ORDER BY 1 LIMIT 20;

-- name: schemas
-- The schemas with tables, and whether indexes may be made in them.
SELECT n.nspname AS schema, has_schema_privilege(n.oid, 'CREATE') AS held
FROM pg_namespace n
WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND EXISTS (
    SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'm')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
) ORDER BY 1 LIMIT 50;

-- name: powers
-- What the role has beyond its tables.
SELECT current_user::text AS "user", current_setting('server_version_num')::int / 10000 AS major,
    pg_has_role('pg_read_all_stats', 'USAGE') AS sees,
    EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'pg_maintain' AND pg_has_role(r.oid, 'USAGE')) AS maintains,
    has_function_privilege('pg_reload_conf()', 'EXECUTE') AS reloads;

-- name: parameters
-- Which settings the role may change with ALTER SYSTEM, of those that upkeep changes.
SELECT name, has_parameter_privilege(name, 'ALTER SYSTEM') AS held
FROM pg_settings WHERE name = ANY (%(names)s::text[]) ORDER BY 1;
