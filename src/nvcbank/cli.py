"""`nvcbank`: the operated bank's command line. It prints; everything else is elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar

import asyncpg

from nvcbank import __version__
from nvcbank.books import Books, check_books
from nvcbank.errors import BankError, BooksError, PartDown
from nvcbank.migrate import migrate, read_migrations, status
from nvcbank.passwords import hash_password
from nvcbank.roles import OWNER
from nvcbank.seed import MOST_CUSTOMERS, add_staff, seed
from nvcbank.settings import database_url, required_secret, serve_settings

T = TypeVar("T")

_ENVIRONMENT = """\
environment (a secret may stand in a file instead: NAME_FILE points to it):
  NVCBANK_ADMIN_URL         migrate, seed, staff, check-books: postgresql:// URL of a superuser or of nvcbank_owner
  NVCBANK_OWNER_PASSWORD, NVCBANK_SERVICE_PASSWORD, NVCBANK_READONLY_PASSWORD, NVCBANK_AUDITOR_PASSWORD
                            migrate: passwords of the roles; a role whose variable is not set keeps its own
  NVCBANK_SEED_PASSWORD     seed: the password of all seeded users
  NVCBANK_STAFF_PASSWORD    staff add: the password of the new staff user
  NVCBANK_SELF_TEST_PASSWORD  self-test: the password of the customer who pays
  NVCBANK_DATABASE_URL      serve: postgresql:// URL of nvcbank_service
  NVCBANK_CACHE_URL         serve: valkey:// URL of the sessions
  NVCBANK_INSTANCE          serve: the name in logs, metrics and /version (nvcbank)
  NVCBANK_LOG               serve: file for JSON log lines, reopened on SIGHUP (standard output)
  NVCBANK_RELEASE           serve: the SHA-256 of the artifact that is started, said by /version and metrics
  NVCBANK_CLOCK_OFFSET_S    serve: shifts this instance's wall clock (0)

exit status: 0 done; 2 the books do not balance, or the self-test failed; 3 a wrong setting, argument or part; in one
sentence
"""


class _Parser(argparse.ArgumentParser):
    """Usage errors end with 3, like every other error of the bank."""

    def error(self, message: str) -> None:  # type: ignore[override] # exits
        self.exit(3, f"{self.prog}: {message} ({self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BankError as error:
        sys.stderr.write(f"nvcbank: {error.sentence}" + (f" ({error.hint})\n" if error.hint else "\n"))
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="nvcbank",
        description="A small real bank: double-entry ledger, payments, sign-in.",
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nvcbank {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    command = commands.add_parser("migrate", help="create the roles and bring the schema to this release")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--status", action="store_true", help="only say what is applied and what is pending")
    which.add_argument("--kind", choices=["expand", "contract"], help="expand: stop before what removes something")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_migrate)

    command = commands.add_parser("seed", help="add verified customers with funded accounts, and two staff users")
    command.add_argument("--customers", type=_customers, required=True, metavar="N", help="at least so many customers")
    command.set_defaults(run=_seed)

    command = commands.add_parser("serve", help="serve the API until SIGTERM")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    command.add_argument("--port", type=_port, required=True, metavar="P", help="port to listen on")
    command.set_defaults(run=_serve)

    command = commands.add_parser("self-test", help="make one real payment at an instance, and find it again")
    command.add_argument("--url", required=True, help="the instance, http://host:port")
    command.add_argument("--login", required=True, help="a customer of the bank's own")
    command.add_argument("--from-account", type=int, required=True, metavar="A", help="the customer's account")
    command.add_argument("--to-account", type=int, required=True, metavar="B", help="who is paid one minor unit")
    command.add_argument("--currency", default="EUR", help="of both accounts (EUR)")
    command.add_argument("--release", default="", help="the artifact's SHA-256 that the instance must say it runs")
    command.set_defaults(run=_self_test)

    command = commands.add_parser("check-books", help="prove that the books balance: ends with 0, or with 2")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_check_books)

    staff = commands.add_parser("staff", help="staff users").add_subparsers(required=True, metavar="COMMAND")
    add = staff.add_parser("add", help="add a staff user")
    add.add_argument("login", help="the login, an e-mail address")
    add.add_argument("--name", required=True, help="the person's name")
    add.add_argument("--role", choices=["officer", "supervisor"], default="officer", help="what they may do (officer)")
    add.set_defaults(run=_add_staff)
    return parser


def _customers(written: str) -> int:
    number = int(written) if written.isdecimal() else -1
    if not 0 <= number <= MOST_CUSTOMERS:
        raise argparse.ArgumentTypeError(f"{written!r} is not a number from 0 to {MOST_CUSTOMERS}")
    return number


def _port(written: str) -> int:
    number = int(written) if written.isdecimal() else 0
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{written!r} is not a port (1 to 65535)")
    return number


def _migrate(arguments: argparse.Namespace) -> int:
    migrations = read_migrations()
    if arguments.status:
        found = _with_database(lambda connection: status(connection, migrations))
        if arguments.json:
            _say(json.dumps(asdict(found)))
        else:
            _say(
                *[f"applied  {name}" for name in found.applied],
                *[f"pending  {name}" for name in found.pending],
            )
        return 0
    applied = _with_database(lambda connection: migrate(connection, migrations, expand_only=arguments.kind == "expand"))
    if arguments.json:
        _say(json.dumps({"applied": applied}))
    else:
        _say(*[f"applied  {name}" for name in applied] or ["nothing to apply"])
    return 0


def _seed(arguments: argparse.Namespace) -> int:
    password = required_secret("NVCBANK_SEED_PASSWORD", "the password of all seeded users")
    _say(json.dumps(_with_database(lambda connection: seed(connection, arguments.customers, password))))
    return 0


def _add_staff(arguments: argparse.Namespace) -> int:
    password_hash = hash_password(required_secret("NVCBANK_STAFF_PASSWORD", "the password of the new staff user"))

    async def add(connection: asyncpg.Connection) -> bool:
        await connection.execute(f"SET ROLE {OWNER}")
        return await add_staff(connection, arguments.login, arguments.name, arguments.role, password_hash)

    if not _with_database(add):
        raise BankError("this login is taken", hint="choose another one")
    return 0


def _self_test(arguments: argparse.Namespace) -> int:
    from nvcbank.self_test import Payment, self_test

    payment = Payment(arguments.login, arguments.from_account, arguments.to_account, arguments.currency)
    password = required_secret("NVCBANK_SELF_TEST_PASSWORD", "the password of the customer who pays")
    _say(self_test(arguments.url, payment, password, arguments.release))
    return 0


def _check_books(arguments: argparse.Namespace) -> int:
    books = _with_database(check_books)
    if arguments.json:
        _say(json.dumps({"balanced": books.balanced, **asdict(books)}))
    else:
        _print_books(books)
    return 0 if books.balanced else BooksError.exit_code


def _print_books(books: Books) -> None:
    for result in books.rules:
        _say("  ".join(["ok    " if result.ok else "BROKEN", result.rule, *result.broken]))
    verdict = "the books balance" if books.balanced else "THE BOOKS DO NOT BALANCE"
    _say(f"{verdict}: {books.accounts} accounts, {books.transfers} transfers, {books.entries} entries")


def _serve(arguments: argparse.Namespace) -> int:
    # Imported late: the other commands need neither uvloop nor the cache.
    from nvcbank.server import serve

    return serve(arguments.host, arguments.port, serve_settings())


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _with_database(work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    return asyncio.run(_connected(database_url("NVCBANK_ADMIN_URL"), work))


async def _connected(url: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    try:
        connection = await asyncpg.connect(url, timeout=10, server_settings={"application_name": "nvcbank-admin"})
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PartDown("database", str(error) or type(error).__name__) from error
    try:
        return await work(connection)
    except asyncpg.PostgresError as error:
        raise BankError(f"the database refused: {error}", hint="see its log") from error
    finally:
        await connection.close(timeout=5)
