-- name: settings
-- Settings as the server runs with them, whether ALTER SYSTEM set them, and for whom another value is set.
SELECT s.name, s.setting AS value, coalesce(s.unit, '') AS unit, s.context,
    coalesce(s.sourcefile LIKE '%%postgresql.auto.conf', false) AS altered,
    coalesce((
        SELECT string_agg(DISTINCT coalesce(x.setrole::regrole::text, 'sessions of this database'), ', ')
        FROM (SELECT nullif(setrole, 0) AS setrole, setdatabase, unnest(setconfig) AS line FROM pg_db_role_setting) x
        WHERE split_part(x.line, '=', 1) = s.name
            AND x.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ), '') AS own
FROM pg_settings s WHERE s.name = ANY (%(names)s::text[]) ORDER BY 1;

-- name: options
-- Options of tables, by their names in quotes.
SELECT t.relation, o.option_name AS option, o.option_value AS value
FROM (
    SELECT format('"%%s"."%%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')) AS relation, c.reloptions
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.reloptions IS NOT NULL
) t, pg_options_to_table(t.reloptions) o
WHERE t.relation = ANY (%(tables)s::text[])
ORDER BY 1, 2;
