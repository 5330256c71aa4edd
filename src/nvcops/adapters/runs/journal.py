"""How the journal keeps what a step returned or raised: JSON, read back by the annotated type. No pickle."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import msgspec

from nvcops.core import errors
from nvcops.core.errors import NvcopsError, RunError, StepFailed
from nvcops.core.units import Count, Quantity

_RESULT_BYTES_MAX = 16 << 20


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step's outcome: a value, an error, or `assumed`: a person says it was done, or a dry run would do it."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    hint: str = ""
    kind: str = ""
    assumed: bool = False


def returned(value: Any) -> str:
    """A returned value, to be journaled.

    Raises:
        RunError: it is no JSON, or too large.
    """
    try:
        data = msgspec.json.encode(value, enc_hook=_encode_hook)
    except (TypeError, ValueError, OverflowError) as error:
        raise RunError(
            f"the journal cannot keep a {type(value).__name__}: {error}", hint="return data, not live objects"
        ) from error
    if len(data) > _RESULT_BYTES_MAX:
        raise RunError(f"a step returned {len(data):,} bytes; the journal keeps {_RESULT_BYTES_MAX:,}")
    return msgspec.json.encode(Kept(value=msgspec.Raw(data))).decode()


def raised(error: Exception) -> str:
    """What a step raised, to be journaled: one of ours as it is, anything else by its type and text."""
    known = isinstance(error, NvcopsError) and type(error).__name__ in _ERRORS
    sentence = error.sentence if isinstance(error, NvcopsError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, NvcopsError) else ""
    kind = type(error).__name__ if known else StepFailed.__name__
    return msgspec.json.encode(Kept(error=sentence or "it gave no reason", hint=hint, kind=kind)).decode()


def assumed() -> str:
    """The outcome of an act that was not carried out here."""
    return msgspec.json.encode(Kept(assumed=True)).decode()


def error_in(kept: str) -> str:
    """The sentence of the error that was kept, "" where there is none."""
    return msgspec.json.decode(kept, type=Kept).error


def value_in(kept: str) -> str:
    """The JSON of the value that was kept."""
    return bytes(msgspec.json.decode(kept, type=Kept).value).decode()


def read_back(kept: str, kind: Any) -> Any:
    """The value that was kept, as its type; or what was raised.

    Raises:
        NvcopsError: the error that the step raised.
        RunError: the value is not of the type that its function's annotation promises.
    """
    outcome = msgspec.json.decode(kept, type=Kept)
    if outcome.error:
        raise _ERRORS[outcome.kind](outcome.error, hint=outcome.hint)
    if outcome.assumed:
        return None
    try:
        return msgspec.json.decode(outcome.value, type=kind, dec_hook=_decode_hook)
    except msgspec.ValidationError as error:
        raise RunError(f"the journal holds something else than {kind}: {error}") from error
    except TypeError as error:
        raise RunError(f"the journal cannot keep a {kind}: {error}", hint="annotate a type of plain data") from error


def return_type(function: Callable[..., Any]) -> Any:
    """The annotated return type of a function, a bound method or a partial of one.

    Raises:
        RunError: it has none.
    """
    while isinstance(function, functools.partial):
        function = function.func
    plain = function.__func__ if isinstance(function, types.MethodType) else function
    hints = typing.get_type_hints(plain)
    if "return" not in hints:
        raise RunError(f"{name_of(function)} does not say what it returns", hint="annotate its return type")
    return hints["return"]


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function as a handle: of a method without its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__).strip("_<>").replace("_", "-")


def title_of(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring without its full stop; else its name."""
    while isinstance(function, functools.partial):
        function = function.func
    line = (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return line or name_of(function).replace("-", " ")


_ERRORS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, NvcopsError)
}


def _encode_hook(value: Any) -> Any:
    if isinstance(value, Quantity | Count):
        return float(value)
    if isinstance(value, str | PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no data")


def _decode_hook(kind: type, value: Any) -> Any:
    if issubclass(kind, Quantity | Count | str | PurePath):
        return kind(value)
    raise TypeError(f"{kind.__name__} is no data")
