"""What is asked of a server about its statements and its sessions, with pg_monitor alone, on PostgreSQL 15 to 18."""

from __future__ import annotations

from typing import Any

import msgspec

from nvcops.adapters.statements.rises import Counted, Reading
from nvcops.core.errors import Refused
from nvcops.core.queries import Rows
from nvcops.core.workload import quoted

ROWS_MAX = 10_000
_SINCE_RELEASE = 17  # from then on each statement says since when it is counted
HOME = """
SELECT n.nspname AS schema, current_setting('server_version_num')::int / 10000 AS release
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
    AND coalesce(current_setting('shared_preload_libraries', true), '') LIKE '%pg_stat_statements%'"""
_INFO = "SELECT stats_reset AS reset, dealloc::float8 AS forgotten FROM {home}.pg_stat_statements_info"
# Ours are not among them, nor what alters roles and could hold a password.
_COUNTED = r"""
SELECT userid::bigint AS role, queryid AS query, query AS text, calls::float8 AS calls, total_exec_time AS total_ms,
    rows::float8 AS rows, {since} AS since
FROM {home}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel AND queryid IS NOT NULL
    AND userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
    AND query ~* '^(\s|/\*.*?\*/)*(select|insert|update|delete|with|merge)\y'
ORDER BY total_exec_time DESC LIMIT {limit}"""
# What functions ask inside, all roles together: the server does not say which statement called them.
_INSIDE = """
SELECT queryid AS id, min(query) AS text, sum(calls)::float8 AS calls, sum(total_exec_time)::float8 / 1000 AS total_s,
    sum(rows)::float8 AS rows
FROM {home}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND NOT toplevel AND queryid IS NOT NULL
    AND userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
GROUP BY queryid ORDER BY total_s DESC LIMIT 100"""
_TRACKED = "SELECT current_setting('pg_stat_statements.track', true) AS tracked"
WAITS = """
SELECT coalesce(wait_event_type, '') AS kind, coalesce(wait_event, '') AS event, coalesce(query_id, 0) AS query,
    left(application_name, 64) AS application, count(*)::int AS count
FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT 200"""


class Waiting(msgspec.Struct, frozen=True):
    """How many active sessions wait for something at a moment, or work: as core.statements.Waited."""

    kind: str
    event: str
    query: int
    application: str
    count: int


def questions(home: Rows) -> dict[str, str]:
    """What to ask a server next, by what it answered to HOME.

    Raises:
        Refused: it has no pg_stat_statements.
    """
    schema, release = _schema(home), int(home[0]["release"])
    since = "stats_since" if release >= _SINCE_RELEASE else "NULL::timestamptz"
    return {"info": _INFO.format(home=schema), "counted": _COUNTED.format(home=schema, since=since, limit=ROWS_MAX)}


def inside_questions(home: Rows) -> dict[str, str]:
    """What to ask it about what functions ask inside. Raises as `questions` does."""
    return {"inside": _INSIDE.format(home=_schema(home)), "tracked": _TRACKED}


def _schema(home: Rows) -> str:
    if not home:
        hint = "CREATE EXTENSION pg_stat_statements, with it in shared_preload_libraries"
        raise Refused("pg_stat_statements is not installed", hint=hint)
    return quoted(home[0]["schema"])


def reading(server: str, info: Rows, counted: Rows) -> Reading:
    """The answers as a reading."""
    about: dict[str, Any] = info[0] if info else {"reset": None, "forgotten": 0.0}
    return Reading(
        server=server,
        reset=about["reset"],
        forgotten=int(about["forgotten"]),
        counted=msgspec.convert(counted, list[Counted]),
    )
