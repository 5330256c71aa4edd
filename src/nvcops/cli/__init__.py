"""The door at the command line. Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN or wrong usage.

130: interrupted; 141: the reader went away (`nvcops runs | head -1`), as the shell counts SIGINT and SIGPIPE.
"""

from __future__ import annotations

import io
import os
import sys

import click

from nvcops.cli.context import aside, forget, plain
from nvcops.core.errors import NvcopsError

INTERRUPTED = 130
READER_GONE = 141
USAGE = 3


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    _prepare_streams()
    try:
        code = _code(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # SystemExit: how click leaves when the reader is gone
        forget(sys.stdout)
        code = READER_GONE
    except OSError as error:
        forget(sys.stdout)
        code = _say(f"{error.filename or 'the output'} cannot be used: {error.strerror or error}", "", USAGE)
    sys.exit(code)


def _prepare_streams() -> None:
    """A letter that the terminal does not have is no reason to stop, and neither is an output that is closed.

    A closed one is opened on nothing: else the first file that we open would take its number, and what is printed
    would go into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _code(arguments: list[str] | None) -> int:
    from nvcops.cli.app import nvcops

    for argument in sys.argv[1:] if arguments is None else arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):  # what is said is signed, and kept as UTF-8
            return _say(f"the argument {argument!r} is not UTF-8", "type it again, or set the locale", USAGE)
    try:
        code = nvcops.main(arguments, prog_name="nvcops", standalone_mode=False)
    except NvcopsError as error:
        return _say(error.sentence, error.hint, error.exit_code)
    except click.ClickException as error:
        return _wrong_usage(error)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", "", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _wrong_usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return USAGE
    context = getattr(error, "ctx", None)
    return _say(error.format_message(), f"{context.command_path} --help" if context else "", USAGE)


def _say(sentence: str, hint: str, code: int) -> int:
    aside(plain(f"nvcops: {sentence}"), fg="red")
    if hint:
        aside(plain(f"  hint: {hint}"))
    return code
