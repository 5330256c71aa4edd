"""Licences: every component's must be allowed, by its SPDX expression; what is unknown is refused."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from packaging.utils import canonicalize_name

from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell
from nvcops.adapters.gates.made import components_of, seeded_folder
from nvcops.adapters.releases.contents import SBOM
from nvcops.core.gates import GateLine, GateReport, judged
from nvcops.core.releases import Component

ALLOWED = (
    "0BSD; Apache-2.0; BSD-2-Clause; BSD-3-Clause; BSL-1.0; CC0-1.0; ISC; MIT; MIT-0; MIT-CMU; MPL-2.0; PSF-2.0; "
    "Python-2.0; PostgreSQL; Unlicense; Zlib; LGPL-2.1-only; LGPL-2.1-or-later; LGPL-3.0-only; LGPL-3.0-or-later"
)


def judge(asked: Asked) -> GateReport:
    """Look at every component. `allow` lists licences; `known` says that of a component whose SBOM does not.

    `accepted` allows one component one licence, as that of a program which is only ever run beside the service.
    """
    allowed = {word.lower() for word in asked.words("allow", ALLOWED)}
    known: dict[str, str] = {canonicalize_name(name): licence for name, licence in asked.pairs("known").items()}
    components = components_of(asked.folder)
    accepted: dict[str, set[str]] = {
        canonicalize_name(name): {word.lower()} for name, word in asked.pairs("accepted").items()
    }
    found = [(one, allowed | accepted.get(name, set())) for name, one in components.items()]
    lines = [line for one, mine in found if (line := objection(one, mine, known)) is not None]
    return judged(lines, len(components), "components")


def objection(component: Component, allowed: Collection[str], known: dict[str, str]) -> GateLine | None:
    """Why a component's licence is not allowed; of several that stand side by side all must be."""
    said = (known[name],) if (name := canonicalize_name(component.name)) in known else component.licences
    subject = f"{component.name} {component.version}"
    if not said:
        return _line("unknown", f"{subject} has no licence in the SBOM")
    for expression in said:
        if why := refused(expression, allowed):
            return _line("not-allowed", f"{subject}: {why}")
    return None


def refused(expression: str, allowed: Collection[str]) -> str:
    """Why an expression is not allowed; of alternatives one will do.

    >>> allowed = {"mit", "apache-2.0"}
    >>> refused("GPL-3.0-only OR MIT", allowed), refused("MIT AND (Apache-2.0 OR GPL-2.0-only)", allowed)
    ('', '')
    >>> refused("MIT AND GPL-3.0-only", allowed)
    'MIT AND GPL-3.0-only is not allowed'
    >>> refused("Public Domain!", allowed)
    "'Public Domain!' is no SPDX expression"
    """
    from license_expression import ExpressionError, get_spdx_licensing  # type: ignore[import-untyped]

    if expression.lower() in allowed:
        return ""
    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(expression, validate=True)
    except ExpressionError:
        return f"{expression[:80]!r} is no SPDX expression"
    except Exception as error:  # the library raises what its parser raised
        raise CannotTell(f"the licence {expression[:80]!r} cannot be read: {error}") from error
    return "" if parsed is not None and _holds(parsed, allowed) else f"{expression[:80]} is not allowed"


def _holds(node: object, allowed: Collection[str]) -> bool:
    from license_expression import LicenseWithExceptionSymbol

    if isinstance(node, LicenseWithExceptionSymbol):  # an exception only ever allows more
        return node.render().lower() in allowed or node.license_symbol.key.lower() in allowed
    operands = getattr(node, "args", ())
    if operands:
        return (any if str(getattr(node, "operator", "")).strip() == "OR" else all)(
            _holds(one, allowed) for one in operands
        )
    return str(getattr(node, "key", "")).lower() in allowed


def seed(asked: Asked) -> Asked:
    """A release with a component under a licence that nobody allows, beside one that is allowed."""
    good = next(iter(asked.words("allow", ALLOWED)), "MIT")
    folder = seeded_folder(asked, licences={"good": good, SEEDED: "LicenseRef-nobody-allows-this"})
    return msgspec.structs.replace(asked, release=str(folder))


def _line(rule: str, text: str) -> GateLine:
    return GateLine(rule=rule, text=text, file=SBOM)
