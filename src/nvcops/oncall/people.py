"""Whom a policy's step asks, and through which channels: the roster and the contacts, as they stand at a moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.manifest import Manifest, Policy, PolicyStep
from nvcops.core.oncall import Override, channels
from nvcops.oncall.rotation import on_call

RECEIVER = "receiver:"
WEBHOOK = "0:webhook"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asked by a step, as what, and on which channels, best first; `why` nobody is, where that is so."""

    to: str
    role: str
    channels: tuple[str, ...] = ()
    why: str = ""


def policy_of(manifest: Manifest, name: str) -> Policy | None:
    """The policy of that name, else the first; None where the manifest has none."""
    policies = manifest.oncall.policies
    return next((policy for policy in policies if policy.name == name), policies[0] if policies else None)


def may_acknowledge(manifest: Manifest, name: str) -> bool:
    """Whether that is somebody who can take something over: of the roster, or of the management."""
    return manifest.person(name) is not None or any(
        contact.name == name and contact.kind == "management" for contact in manifest.contacts
    )


def role_of(step: PolicyStep) -> str:
    """What a step asks for: a rotation, or somebody by name."""
    return step.rotation or step.person or step.contact or ""


def asked_by(
    manifest: Manifest, overrides: Sequence[Override], policy: Policy, category: Category, at: dt.datetime
) -> list[Asked]:
    """Whom each step of a policy asks at a moment, in the steps' order."""
    shifts = on_call(manifest, overrides, at)
    return [
        _asked(manifest, step, shifts[step.rotation].person if step.rotation in shifts else "", category)
        for step in policy.steps
    ]


def _asked(manifest: Manifest, step: PolicyStep, on_duty: str, category: Category) -> Asked:
    role = role_of(step)
    to = on_duty if step.rotation else role
    if not to:
        return Asked(to="", role=role, why=f"nobody is on call for {role}")
    ways = channels(manifest.reach(to) or (), category)
    if not ways:
        return Asked(to=to, role=role, why=f"{to} has no contact for {category} alerts")
    return Asked(to=to, role=role, channels=tuple(ways))


def at_once(ways: Sequence[str], category: Category) -> list[str]:
    """The channels that are used at once; the others are fallen back to by whoever sends.

    Of something critical the first two kinds: a gateway that takes a message and does not deliver it is not noticed.

    >>> at_once(["0:sms", "1:sms", "2:push"], Category.CRITICAL), at_once(["0:sms", "1:push"], Category.HIGH)
    (['0:sms', '2:push'], ['0:sms'])
    >>> at_once(["0:sms", "1:sms"], Category.CRITICAL)
    ['0:sms']
    """
    kinds = {way.partition(":")[2]: way for way in reversed(ways)}
    first_of_each = sorted(kinds.values(), key=ways.index)
    return first_of_each[: 2 if category is Category.CRITICAL else 1]
