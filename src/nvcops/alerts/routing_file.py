"""Alertmanager's configuration file, read as it is: each mistake with file, line and what is expected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

from nvcops.alerts import timing
from nvcops.alerts.matchers import check_pattern, parse_matchers
from nvcops.alerts.routing import (
    GROUP_INTERVAL,
    GROUP_WAIT,
    REPEAT_INTERVAL,
    InhibitRule,
    Receiver,
    Route,
    Routing,
    Webhook,
    default_routing,
    plain_key,
)
from nvcops.alerts.timing import TimeInterval, read_duration
from nvcops.alerts.yaml_lines import Line, read_yaml, rows_of
from nvcops.core.alerts import Matcher
from nvcops.core.manifest import Manifest

ROUTES_MAX = 1_000
_ROUTE = (
    "receiver",
    "group_by",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "matchers",
    "match",
    "match_re",
    "continue",
    "routes",
    "mute_time_intervals",
    "active_time_intervals",
)
_ELSEWHERE = (
    *("email", "slack", "pagerduty", "opsgenie", "victorops", "pushover", "sns", "telegram", "wechat", "webex"),
    *("discord", "msteams", "msteamsv2", "jira", "rocketchat", "mattermost", "incidentio"),
)
_GLOBAL = ("smtp", *_ELSEWHERE)  # settings of integrations: of no use to anybody here, as no receiver may have them
_HARMLESS = {"follow_redirects", "enable_http2"}
_REACH = "name the receiver as an [[oncall.policies]], which asks people on their contacts; or use webhook_configs"

Intervals = dict[str, tuple[TimeInterval, ...]]


def routing_of(manifest: Manifest, text: str | None) -> Routing:
    """The routing of a platform: that of the file that [alerts] routing names, of which this is the text, or ours."""
    if text is None or manifest.alerts.routing is None:
        return default_routing(manifest)
    names = [policy.name for policy in manifest.oncall.policies]
    return read_routing(text, manifest.alerts.routing, policies=names, own=manifest.alerts.listen or "")


def read_routing(text: str, path: Path, *, policies: Collection[str] = (), own: str = "") -> Routing:
    """Read the text of a configuration file; a receiver with a policy's name pages that policy.

    `own` is the host and port on which alerts come in: a webhook that leads there is a mistake.

    Raises:
        ManifestError: with file, line and what is expected.
    """
    document = read_yaml(text, path)
    top = document.table(
        "global", "route", "receivers", "inhibit_rules", "time_intervals", "mute_time_intervals", "templates", "tracing"
    )
    for key in ("route", "receivers"):
        if key not in top:
            raise document.wrong(f"the file has no `{key}`", "as Alertmanager's own needs one")
    warnings = [f"{top[key].place}: `{key}` has no effect here" for key in ("templates", "tracing") if key in top]
    receivers = _receivers(top["receivers"], policies, own, warnings)
    intervals = _intervals(top)
    root = _root(top["route"], receivers, intervals)
    return Routing(
        root=root,
        receivers=receivers,
        inhibit=tuple(_inhibit(line) for line in rows_of(top, "inhibit_rules")),
        intervals=intervals,
        resolve_after=_global(top["global"]) if "global" in top else None,
        warnings=tuple(warnings),
    )


def _global(line: Line) -> dt.timedelta | None:
    there = line.table()
    for key, value in there.items():
        if key == "http_config":
            _http(value)
        elif key != "resolve_timeout" and key.partition("_")[0] not in _GLOBAL:
            raise value.wrong(
                f"unknown key {key[:60]!r}", "known here: resolve_timeout, http_config, and integrations'"
            )
    return there["resolve_timeout"].read(_positive) if "resolve_timeout" in there else None


def _positive(written: str) -> dt.timedelta:
    duration = read_duration(written)
    if not duration:
        raise ValueError("it must be more than nothing")
    return duration


# --- Receivers ---


def _receivers(line: Line, policies: Collection[str], own: str, warnings: list[str]) -> dict[str, Receiver]:
    found: dict[str, Receiver] = {}
    for row in line.rows():
        receiver = _receiver(row, policies, own)
        if receiver.name in found:
            raise row.wrong(f"there are two receivers {receiver.name!r}", "names are unique")
        if not receiver.opens and not receiver.webhooks:
            there = ", ".join(policies) or "none"
            warnings.append(f"{row.place}: the receiver {receiver.name!r} reaches nobody: it is no policy ({there})")
        found[receiver.name] = receiver
    return found


def _receiver(line: Line, policies: Collection[str], own: str) -> Receiver:
    there = line.table("name", "webhook_configs", *(f"{kind}_configs" for kind in _ELSEWHERE))
    name = there["name"].text() if "name" in there else ""
    if not name:
        raise line.wrong("a receiver has a `name`")
    for kind in _ELSEWHERE:
        for row in rows_of(there, f"{kind}_configs"):
            raise row.wrong(f"the receiver {name!r} uses {kind}_configs, which is not sent from here", _REACH)
    webhooks = tuple(_webhook(row, own) for row in rows_of(there, "webhook_configs"))
    paged = name in policies
    return Receiver(name=name, opens=paged, policy=name if paged else "", webhooks=webhooks)


def _webhook(line: Line, own: str) -> Webhook:
    there = line.table("url", "url_file", "send_resolved", "max_alerts", "http_config", "timeout")
    if ("url" in there) == ("url_file" in there):
        raise line.wrong("a webhook has either `url` or `url_file`", "where a secret stands in it, url_file")
    if "http_config" in there:
        _http(there["http_config"])
    url = there["url"].read(_address) if "url" in there else ""
    if own and urlsplit(url).netloc.rpartition("@")[2] == own:
        raise there["url"].wrong("the webhook leads back to nvcops itself", "point it at somebody else")
    if "timeout" in there:
        there["timeout"].read(read_duration)
    return Webhook(
        url=url,
        url_file=there["url_file"].file() if "url_file" in there else None,
        send_resolved=there["send_resolved"].flag() if "send_resolved" in there else True,
        alerts_max=there["max_alerts"].read(_count) if "max_alerts" in there else 0,
    )


def _address(written: str) -> str:
    if (
        not written.startswith(("http://", "https://"))
        or any(map(str.isspace, written))
        or not urlsplit(written).netloc
    ):
        raise ValueError("this is no address: write https://host/path")
    return written


def _count(written: str) -> int:
    if not written.isdecimal() or len(written) > 6:
        raise ValueError(f"{written[:40]!r} is no count of alerts")
    return int(written)


def _http(line: Line) -> None:
    for key, value in line.table().items():
        if key not in _HARMLESS:
            raise value.wrong(
                f"`{key[:40]}` is not supported here", "user, password or token may stand in url_file's URL"
            )


# --- Routes ---


def _root(line: Line, receivers: Mapping[str, Receiver], intervals: Intervals) -> Route:
    there = line.table(*_ROUTE)
    if "receiver" not in there:
        raise line.wrong("the root route has no `receiver`", "it is who gets what no other route takes")
    start = Route(
        id="{}",
        receiver="",
        group_wait=GROUP_WAIT,
        group_interval=GROUP_INTERVAL,
        repeat_interval=REPEAT_INTERVAL,
    )
    root = _Tree(receivers, intervals).route(line, start, start.id)
    if root.matchers or root.goes_on or root.muted or root.active:
        sentence = "the root route has no matchers, no `continue` and no time intervals: it takes everything, always"
        raise line.wrong(sentence, "write them in a route below")
    if sum(1 for _ in root.every()) > ROUTES_MAX:
        raise line.wrong(f"there are more than {ROUTES_MAX:,} routes", "match with regular expressions")
    return root


class _Tree:
    """What the routes refer to."""

    def __init__(self, receivers: Mapping[str, Receiver], intervals: Intervals) -> None:
        self._receivers = receivers
        self._intervals = intervals

    def route(self, line: Line, parent: Route, key: str) -> Route:
        """A route with what it inherits from its parent, and the routes below it."""
        there = line.table(*_ROUTE)
        group_by = _group_by(there["group_by"]) if "group_by" in there else parent.group_by
        durations = {
            name: there[name].read(read_duration if name == "group_wait" else _positive)
            for name in ("group_wait", "group_interval", "repeat_interval")
            if name in there
        }
        itself = Route(
            id=key,
            receiver=self._receiver(there["receiver"]) if "receiver" in there else parent.receiver,
            matchers=_matchers(there, ""),
            goes_on="continue" in there and there["continue"].flag(),
            group_by=group_by,
            group_wait=durations.get("group_wait", parent.group_wait),
            group_interval=durations.get("group_interval", parent.group_interval),
            repeat_interval=durations.get("repeat_interval", parent.repeat_interval),
            muted=self._named(there, "mute_time_intervals"),
            active=self._named(there, "active_time_intervals"),
        )
        return msgspec.structs.replace(itself, routes=self._below(there, itself))

    def _below(self, there: Mapping[str, Line], parent: Route) -> tuple[Route, ...]:
        found: dict[str, Route] = {}
        for row in rows_of(there, "routes"):
            matchers = _matchers(row.table(*_ROUTE), "")
            said = f"{parent.id}/{{{','.join(map(str, matchers))}}}"
            same = sum(key.partition("#")[0] == plain_key(said) for key in found)
            key = plain_key(said) + (f"#{same}" if same else "")
            found[key] = self.route(row, parent, key)
        return tuple(found.values())

    def _receiver(self, line: Line) -> str:
        name = line.text()
        if name not in self._receivers:
            raise line.wrong(f"there is no receiver {name[:60]!r}", f"there: {', '.join(self._receivers) or 'none'}")
        return name

    def _named(self, there: Mapping[str, Line], key: str) -> tuple[str, ...]:
        names = []
        for row in rows_of(there, key):
            if row.text() not in self._intervals:
                hint = f"there: {', '.join(self._intervals) or 'none'}"
                raise row.wrong(f"there is no time interval {row.text()[:60]!r}", hint)
            names.append(row.text())
        return tuple(names)


def _group_by(line: Line) -> tuple[str, ...] | None:
    names: list[str] = []
    for row in line.rows():
        name = row.text()
        if not name or name in names:
            raise row.wrong(f"{name!r} stands twice in group_by" if name else "group_by has an empty name")
        names.append(name)
    if "..." in names and len(names) > 1:
        raise line.wrong("`...` is by all labels, so no other stands beside it", "group_by: ['...']")
    return None if names == ["..."] else tuple(names)


def _matchers(there: Mapping[str, Line], prefix: str) -> tuple[Matcher, ...]:
    """All of `matchers`, `match` and `match_re`, the older ones sorted by label."""
    found: list[Matcher] = []
    plain, patterns, new = (f"{prefix}match", f"{prefix}match_re", f"{prefix}matchers")
    if plain in there:
        found += [Matcher(name, "=", value.text()) for name, value in sorted(there[plain].table().items())]
    if patterns in there:
        found += [Matcher(name, "=~", value.read(_pattern)) for name, value in sorted(there[patterns].table().items())]
    for row in rows_of(there, new):
        found += row.read(parse_matchers)
    return tuple(found)


def _pattern(written: str) -> str:
    check_pattern(written)
    return written


def _inhibit(line: Line) -> InhibitRule:
    sides = [f"{side}_{kind}" for side in ("source", "target") for kind in ("match", "match_re", "matchers")]
    there = line.table("name", "equal", *sides)
    source, target = _matchers(there, "source_"), _matchers(there, "target_")
    for side, matchers in (("source", source), ("target", target)):
        if not matchers:
            raise line.wrong(f"the rule has no {side}_matchers", "else everything would be meant")
    return InhibitRule(source=source, target=target, equal=tuple(row.text() for row in rows_of(there, "equal")))


# --- Time intervals ---


def _intervals(top: Mapping[str, Line]) -> Intervals:
    found: Intervals = {}
    for key in ("time_intervals", "mute_time_intervals"):
        for row in rows_of(top, key):
            there = row.table("name", "time_intervals")
            name = there["name"].text() if "name" in there else ""
            if not name or name in found:
                raise row.wrong(f"there are two time intervals {name!r}" if name else "a time interval has a `name`")
            found[name] = tuple(_interval(each) for each in rows_of(there, "time_intervals"))
    return found


def _interval(line: Line) -> TimeInterval:
    there = line.table("times", "weekdays", "days_of_month", "months", "years", "location")
    return TimeInterval(
        minutes=tuple(_minutes(row) for row in rows_of(there, "times")),
        weekdays=tuple(row.read(timing.read_weekdays) for row in rows_of(there, "weekdays")),
        days=tuple(row.read(timing.read_days) for row in rows_of(there, "days_of_month")),
        months=tuple(row.read(timing.read_months) for row in rows_of(there, "months")),
        years=tuple(row.read(timing.read_years) for row in rows_of(there, "years")),
        zone=there["location"].read(_zone) if "location" in there else "UTC",
    )


def _minutes(line: Line) -> timing.Span:
    there = line.table("start_time", "end_time")
    for key in ("start_time", "end_time"):
        if key not in there:
            raise line.wrong(f"a range of times has no `{key}`", "start_time: '09:00', end_time: '17:00'")
    return line.checked(lambda: timing.read_minutes(there["start_time"].text(), there["end_time"].text()))


def _zone(written: str) -> str:
    try:
        ZoneInfo(written)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{written[:40]!r} is no time zone: write it like America/New_York") from None
    return written
