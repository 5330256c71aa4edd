-- name: databases
-- How many transactions ago each database was frozen, and where the server begins to insist.
SELECT
    datname AS name, age(datfrozenxid)::float8 AS xids, mxid_age(datminmxid)::float8 AS mxids,
    current_setting('autovacuum_freeze_max_age')::float8 AS xids_max,
    current_setting('autovacuum_multixact_freeze_max_age')::float8 AS mxids_max
FROM pg_database
ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC, datname = current_database() DESC, 1 LIMIT 100;

-- name: oldest_tables
-- The tables of this database that were frozen longest ago, by transactions and by multixacts.
SELECT
    format('%I.%I', n.nspname, coalesce(o.relname, c.relname)) || CASE WHEN o.oid IS NULL THEN '' ELSE ' (TOAST)' END AS name,
    worst.kind, worst.age::float8 AS age
FROM (
    (SELECT oid, 'xid' AS kind, age(relfrozenxid) AS age FROM pg_class
     WHERE relkind IN ('r', 'm', 't') AND relpersistence <> 't' ORDER BY 3 DESC LIMIT 1)
    UNION ALL
    (SELECT oid, 'mxid', mxid_age(relminmxid) FROM pg_class
     WHERE relkind IN ('r', 'm', 't') AND relpersistence <> 't' ORDER BY 3 DESC LIMIT 1)
) worst
JOIN pg_class c ON c.oid = worst.oid
LEFT JOIN pg_class o ON c.relkind = 't' AND o.reltoastrelid = c.oid
JOIN pg_namespace n ON n.oid = coalesce(o.relnamespace, c.relnamespace);

-- name: emergencies
-- Vacuums that run against wraparound, and whether their table is so old that they leave out all else.
SELECT
    a.pid, coalesce(a.datname, '') AS database,
    coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), substring(a.query FROM 'VACUUM (?:ANALYZE )?(.+) \(')) AS name,
    coalesce(
        age(c.relfrozenxid) >= greatest(
            current_setting('vacuum_failsafe_age')::int, 1.05 * current_setting('autovacuum_freeze_max_age')::int
        ) OR mxid_age(c.relminmxid) >= greatest(
            current_setting('vacuum_multixact_failsafe_age')::int,
            1.05 * current_setting('autovacuum_multixact_freeze_max_age')::int
        ), false
    ) AS failsafe,
    coalesce(100.0 * p.heap_blks_scanned / nullif(p.heap_blks_total, 0), 0)::float8 AS percent
FROM pg_stat_activity a
LEFT JOIN pg_stat_progress_vacuum p ON p.pid = a.pid
LEFT JOIN pg_class c ON c.oid = p.relid AND p.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.backend_type = 'autovacuum worker' AND a.query LIKE '%(to prevent wraparound)'
ORDER BY 4 DESC, 1 LIMIT 100;

-- name: holders
-- Who keeps dead rows from being removed, the oldest first. Whoever has a transaction's number stands before those whose
-- snapshots are old only because of it.
SELECT kind, name, pid, of, age::float8 AS age, since_s FROM (
    SELECT
        'session' AS kind, coalesce(usename, backend_type) AS name, pid,
        concat_ws(', ', nullif(application_name, ''), state,
            CASE WHEN datname <> current_database() THEN 'in ' || quote_ident(datname) END) AS of,
        age(backend_xid) AS age, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS since_s, 1 AS rank
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT
        'session', coalesce(usename, backend_type), pid, concat_ws(', ', nullif(application_name, ''), state),
        age(backend_xmin), extract(epoch FROM clock_timestamp() - xact_start)::float8, 3
    FROM pg_stat_activity a
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
        AND backend_type NOT IN ('walsender', 'autovacuum worker')
        AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
    UNION ALL
    SELECT
        'prepared', gid, 0, owner || ' in ' || quote_ident(database), age(transaction),
        extract(epoch FROM clock_timestamp() - prepared)::float8, 1
    FROM pg_prepared_xacts
    UNION ALL
    SELECT
        'slot', s.slot_name, coalesce(s.active_pid, 0),
        CASE WHEN s.active THEN 'used by ' || coalesce(nullif(r.application_name, ''), 'pid ' || s.active_pid)
            ELSE 'used by nobody' END,
        greatest(age(s.xmin), age(s.catalog_xmin)), NULL, 2
    FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
    WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
    UNION ALL
    SELECT
        'standby', coalesce(nullif(application_name, ''), 'walsender'), pid, coalesce(host(client_addr), 'local'),
        age(backend_xmin), NULL, 2
    FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
) held ORDER BY age DESC, rank, pid LIMIT 20;
