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
    sys.exit(_code(arguments))


def _code(arguments: list[str] | None) -> int:
    from nvcops.cli.app import nvcops

    try:
        code = nvcops.main(arguments, prog_name="nvcops", standalone_mode=False)
        sys.stdout.flush()
    except NvcopsError as error:
        _say(error.sentence, error.hint)
        return error.exit_code
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _say(error.format_message(), f"{context.command_path} --help" if context else "")
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted", "")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough: `nvcops runs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _say(sentence: str, hint: str) -> None:
    click.secho(f"nvcops: {sentence}", err=True, fg="red")
    if hint:
        click.echo(f"  hint: {hint}", err=True)
