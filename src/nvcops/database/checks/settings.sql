-- name: settings
-- Every setting as it is in force for a session of ours, and whether it waits for a restart.
SELECT name, setting, coalesce(unit, '') AS unit, vartype AS kind, coalesce(boot_val, '') AS boot, source,
    pending_restart AS pending
FROM pg_settings ORDER BY name;

-- name: overrides
-- What is set for a role, for this database, or for a role in it alone.
SELECT
    coalesce(r.rolname, '') AS role, s.setdatabase <> 0 AS here,
    split_part(c.setting, '=', 1) AS name, substr(c.setting, strpos(c.setting, '=') + 1) AS value
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS c (setting)
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1, 3 LIMIT 1000;

-- name: roles
-- The roles that have sessions in this database now: neither superusers, nor replication, nor those that watch.
SELECT DISTINCT r.rolname AS name
FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND r.rolname <> current_user
    AND NOT r.rolsuper AND NOT r.rolreplication AND NOT pg_has_role(r.oid, 'pg_monitor', 'MEMBER')
ORDER BY 1 LIMIT 100;

-- name: askers
-- The roles that have asked this database anything since its statements are counted, whether they have a session now or not.
SELECT DISTINCT r.rolname AS name
FROM {pg_stat_statements}.pg_stat_statements(false) s JOIN pg_roles r ON r.oid = s.userid
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.toplevel AND r.rolcanlogin
    AND r.rolname <> current_user
    AND NOT r.rolsuper AND NOT r.rolreplication AND NOT pg_has_role(r.oid, 'pg_monitor', 'MEMBER')
ORDER BY 1 LIMIT 100;

-- name: files
-- What the server's configuration files say that it cannot use, and the deadlines that our own session hides.
SELECT coalesce(name, '') AS name, coalesce(setting, '') AS setting, coalesce(error, '') AS error, sourceline AS line,
    coalesce(sourcefile, '') AS file, applied
FROM {pg_file_settings}.pg_file_settings
WHERE error IS NOT NULL OR applied AND name IN ('statement_timeout', 'lock_timeout', 'default_transaction_read_only')
ORDER BY file, line LIMIT 1000;
