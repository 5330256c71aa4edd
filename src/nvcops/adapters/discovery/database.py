"""What a PostgreSQL server says of itself, its standbys and its files to the user that will watch it."""

from __future__ import annotations

import os
from pathlib import Path

from nvcops.adapters.discovery.found import DatabaseFound, Note, StandbyFound
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.errors import TargetError
from nvcops.core.manifest import DatabaseEntry
from nvcops.core.queries import Rows

_QUERIES = {
    "server": """
        SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
            pg_has_role(current_user, 'pg_monitor', 'USAGE') AS monitor,
            current_setting('is_superuser') = 'on' AS superuser,
            inet_server_addr() IS NOT DISTINCT FROM inet_client_addr() AS same_host""",
    "settings": """
        SELECT name, setting FROM pg_settings
        WHERE name IN ('log_destination', 'logging_collector', 'log_filename', 'log_statement', 'log_timezone',
            'data_directory', 'shared_preload_libraries')""",
    "standbys": """
        SELECT application_name AS name, host(client_addr) AS host, state FROM pg_stat_replication
        WHERE state IN ('streaming', 'catchup') ORDER BY application_name LIMIT 50""",
    "receiver": "SELECT sender_host AS host, sender_port AS port FROM pg_stat_wal_receiver",
    "log": "SELECT pg_current_logfile('jsonlog') AS path",
    "extension": "SELECT 1 AS there FROM pg_extension WHERE extname = 'pg_stat_statements'",
    "indexes": """
        SELECT indexrelname AS name FROM pg_stat_user_indexes
        GROUP BY indexrelname HAVING count(*) = 1 ORDER BY sum(idx_scan) DESC, indexrelname LIMIT 5""",
}

_ZONES = ("UTC", "GMT", "Etc/UTC")


def ask_database(entry: DatabaseEntry, password: str | None, notes: list[Note]) -> DatabaseFound | None:
    """Ask the primary; None, with a note, where it does not let us in or is no primary."""
    server = _server(entry, entry.primary.host, password)
    try:
        answers = server.read(_QUERIES)
    except TargetError as error:
        notes.append(Note("database", False, error.sentence, error.hint or _way_in(error.sentence)))
        return None
    asked = {name: rows for name, rows in answers.items() if not isinstance(rows, TargetError)}
    if "server" not in asked:
        notes.append(Note("database", False, str(answers["server"]), "is it PostgreSQL, 15 or newer?"))
        return None
    said = asked["server"][0]
    if said["standby"]:
        notes.append(_not_the_primary(server, asked.get("receiver", [])))
        return None
    where = f"{entry.primary.host}:{entry.port}/{entry.name}"
    notes.append(Note("database", True, f"PostgreSQL {said['version']} at {where}, user {entry.user}"))
    _privileges(entry.user, said["monitor"], said["superuser"], notes)
    settings = {row["name"]: row["setting"] for row in asked.get("settings", [])}
    _statements(bool(asked.get("extension")), settings, notes)
    return DatabaseFound(
        entry=entry,
        version=said["version"],
        standbys=tuple(_standby(entry, row, password, notes) for row in asked.get("standbys", [])),
        log=_log(settings, asked.get("log", []), said["same_host"], notes),
        data_directory=_data_directory(settings, said["same_host"], notes),
        indexes=tuple(row["name"] for row in asked.get("indexes", [])),
    )


def _server(entry: DatabaseEntry, host: str, password: str | None) -> PostgresServer:
    return PostgresServer(
        name="database",
        host=host,
        port=entry.port,
        database=entry.name,
        user=entry.user,
        deadline_s=entry.deadline,
        password=password,
    )


def _way_in(sentence: str) -> str:
    if "password" in sentence:
        return "give it with --database-password-file or --database-password-env"
    if "does not exist" in sentence:
        return "the address is postgresql://USER@HOST:PORT/DATABASE"
    return "is it running, and the address right?"


def _not_the_primary(server: PostgresServer, receiver: Rows) -> Note:
    sender = f"{receiver[0]['host']}:{receiver[0]['port']}" if receiver and receiver[0]["host"] else ""
    hint = f"it receives from {sender}: give that as --database" if sender else "give the primary's as --database"
    return Note("database", False, f"{server.host}:{server.port} is a standby", hint)


def _privileges(user: str, monitor: bool, superuser: bool, notes: list[Note]) -> None:
    if superuser:
        hint = "a user of its own with pg_monitor and nothing else is enough"
        notes.append(Note("privileges", True, f"{user} is a superuser: more than watching needs", hint))
    elif monitor:
        notes.append(Note("privileges", True, f"{user} has pg_monitor"))
    else:
        text = f"{user} lacks pg_monitor: it sees neither other sessions nor the standbys"
        notes.append(Note("privileges", False, text, f'GRANT pg_monitor TO "{user}"'))


def _statements(there: bool, settings: dict[str, str], notes: list[Note]) -> None:
    if there:
        notes.append(Note("pg_stat_statements", True, "slow statements can be read"))
        return
    loaded = "pg_stat_statements" in settings.get("shared_preload_libraries", "")
    hint = "CREATE EXTENSION pg_stat_statements"
    if not loaded:
        hint = f"shared_preload_libraries = 'pg_stat_statements', restart, {hint}"
    notes.append(Note("pg_stat_statements", False, "slow statements cannot be read", hint))


def _standby(entry: DatabaseEntry, row: dict[str, str | None], password: str | None, notes: list[Note]) -> StandbyFound:
    """One standby of pg_stat_replication. Its port is nowhere to be read: the primary's is tried."""
    name, host = row["name"] or "standby", row["host"] or ""
    reached = bool(host) and _is_standby(entry, host, password)
    if reached:
        notes.append(Note(f"standby {name}", True, f"streams, and answers at {host}:{entry.port}"))
    else:
        seen = f"comes from {host}" if host else "comes through a unix socket"
        text = f"streams ({seen}), but is not found at port {entry.port} there"
        notes.append(Note(f"standby {name}", False, text, "write its host and port in `standbys` by hand"))
    return StandbyFound(name=name, host=host, reached=reached)


def _is_standby(entry: DatabaseEntry, host: str, password: str | None) -> bool:
    try:
        return bool(_server(entry, host, password).rows("SELECT pg_is_in_recovery() AS standby")[0]["standby"])
    except TargetError:  # a guess that did not come true is no trouble: the note says what to do
        return False


def _log(settings: dict[str, str], current: Rows, same_host: bool, notes: list[Note]) -> str:
    """The server's log, where it is JSON and on this machine."""
    collected = settings.get("logging_collector") == "on" and "jsonlog" in settings.get("log_destination", "")
    if not collected:
        written = settings.get("log_destination", "not to be seen")
        hint = "logging_collector = on, log_destination = 'jsonlog': then its events are read too"
        notes.append(Note("database log", False, f"not JSON (log_destination is {written})", hint))
        return ""
    path = current[0]["path"] if current else None
    if not path:
        notes.append(Note("database log", False, "JSON, but its place is not to be seen", "GRANT pg_monitor"))
        return ""
    place = Path(settings.get("data_directory", "/"), path)
    if "%" in settings.get("log_filename", ""):
        hint = "log_filename = 'postgresql.log', rotated by logrotate: then its events are read too"
        notes.append(Note("database log", False, f"{place} is JSON, but its name changes with the date", hint))
        return ""
    if not (same_host and os.access(place, os.R_OK)):
        why = "is not readable for you" if same_host else "lies on another machine"
        notes.append(Note("database log", False, f"{place} {why}", "make it readable here and write it as `log`"))
        return ""
    zone = settings.get("log_timezone", "")
    hint = (
        "" if zone in _ZONES else f"log_timezone is {zone}: its times are read in that zone, as `time_zone`, or in UTC"
    )
    notes.append(Note("database log", True, f"{place} is JSON", hint))
    if settings.get("log_statement") == "none":
        hint = "ALTER SYSTEM SET log_statement = 'ddl'; SELECT pg_reload_conf()"
        notes.append(Note("statement log", False, "changes of privileges leave no trace in the log", hint))
    return str(place)


def _data_directory(settings: dict[str, str], same_host: bool, notes: list[Note]) -> str:
    """The folder whose disk must not fill up, where it can be seen from this machine."""
    place = settings.get("data_directory", "")
    if not place:
        notes.append(Note("disk", False, "the data directory is not to be seen", "GRANT pg_monitor"))
        return ""
    if not (same_host and _is_there(Path(place))):
        text = f"the data directory {place} cannot be seen from here"
        notes.append(Note("disk", False, text, "name a disk that can in [[disks]]"))
        return ""
    notes.append(Note("disk", True, f"{place} holds the database"))
    return place


def _is_there(folder: Path) -> bool:
    try:
        os.statvfs(folder)
    except OSError:  # another machine's, or a container's, path
        return False
    return True
