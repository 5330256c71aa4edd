"""The door at the command line. Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN or wrong usage, 130 interrupted."""

from __future__ import annotations

import os
import sys

import click

from nvcops.core.errors import NvcopsError

INTERRUPTED = 130
USAGE = 3


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    try:
        code = _code(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `nvcops runs | head -1`
        _forget_output()
        code = 0
    sys.exit(code)


def _code(arguments: list[str] | None) -> int:
    from nvcops.cli.app import nvcops

    try:
        code = nvcops.main(arguments, prog_name="nvcops", standalone_mode=False)
    except NvcopsError as error:
        return _say(error.sentence, error.hint, error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
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


def _forget_output() -> None:
    """What is still in the buffer goes nowhere, instead of failing once more at the very end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str, hint: str, code: int) -> int:
    click.secho(f"nvcops: {sentence}", err=True, fg="red")
    if hint:
        click.echo(f"  hint: {hint}", err=True)
    return code
