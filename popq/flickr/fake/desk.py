"""The pages of the fake Flickr that real Flickr has not: counters, and faults switched by hand.

GET /_popq/ is a page for people, GET /_popq/counters all counts as JSON (`?window_s=60` for the
most requests in any minute), DELETE /_popq/counters forgets them. GET /_popq/faults lists the
rules in force, POST adds those of a plan in JSON, DELETE lets nothing go wrong any more, and
DELETE /_popq/faults/NAME takes one rule back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import unquote

from popq.errors import BadInput
from popq.flickr.fake import plan
from popq.flickr.fake.counters import Counters, Counts
from popq.flickr.fake.faults import Faults
from popq.flickr.fake.reply import Reply
from popq.flickr.fake.world import World

FOLDER = "/_popq"
_SHOWN = 25  # rows of one table
_STYLE = "body{font:15px sans-serif;margin:2em}td,th{padding:.1em 1em .1em 0;text-align:left}"


class Desk:
    """Answers below `/_popq`; `keys` are those of the API, which a plan may add to."""

    def __init__(
        self, world: World, faults: Faults, counters: Counters, keys: dict[str, str]
    ) -> None:
        self._world = world
        self._faults = faults
        self._counters = counters
        self._keys = keys

    def answer(self, method: str, path: str, params: Mapping[str, str], body: str) -> Reply:
        """Answer one request; a HEAD is answered like a GET."""
        verb = "GET" if method == "HEAD" else method
        page, _, name = path.removeprefix(FOLDER).strip("/").partition("/")
        doors: dict[tuple[str, str], Callable[[], Reply]] = {
            ("GET", ""): lambda: self._for_people(_window(params)),
            ("GET", "counters"): lambda: _json(200, self._counters.snapshot(_window(params))),
            ("DELETE", "counters"): self._reset,
            ("GET", "faults"): self._list_rules,
            ("POST", "faults"): lambda: self._add_rules(body),
            ("DELETE", "faults"): lambda: self._remove_rules(unquote(name)),
        }
        door = doors.get((verb, page))
        if door is None or (name and (verb, page) != ("DELETE", "faults")):
            return _json(404, {"error": f"there is no {verb} {path}; see {FOLDER}/"})
        try:
            return door()
        except BadInput as error:
            return _json(400, {"error": str(error)})

    def _reset(self) -> Reply:
        self._counters.reset()
        return _json(200, {"reset": True})

    def _list_rules(self) -> Reply:
        return _json(200, {"rules": self._rules()})

    def _add_rules(self, body: str) -> Reply:
        plan.read(_object(body), "the plan").apply(self._world, self._faults, self._keys)
        return self._list_rules()

    def _remove_rules(self, name: str) -> Reply:
        if not name:
            self._faults.clear()
        elif not self._faults.remove(name):
            raise BadInput(f'there is no rule "{name}"; GET {FOLDER}/faults lists them')
        return self._list_rules()

    def _rules(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "seen": calls, "struck": strikes}
            for name, calls, strikes in self._faults.rules()
        ]

    def _for_people(self, window_s: float) -> Reply:
        counts = self._counters.snapshot(window_s)
        rules = [(rule["name"], rule["seen"], rule["struck"]) for rule in self._rules()]
        text = "".join(
            (
                "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>fake Flickr</title>",
                f"<style>{_STYLE}</style><h1>What clients did to the fake Flickr</h1>",
                f"<p>In {counts['seconds']:,.0f} s, as <a href='{FOLDER}/counters'>JSON</a>. ",
                f"{counts['duplicate_nonces']} duplicate nonces.</p>",
                *_tables(counts),
                _table("Rules in force", ("rule", "seen", "struck"), rules),
                "</html>\n",
            )
        )
        headers = (("Content-Type", "text/html; charset=utf-8"),)
        return Reply(200, headers, text.encode("utf-8", "replace"), chunked=False)


def _tables(counts: Counts) -> Iterable[str]:
    hosts = [
        (
            host,
            requests,
            counts["bytes"][host],
            counts["max_concurrency"][host],
            ", ".join(f"{status}: {n:,}" for status, n in counts["statuses"][host].items()),
        )
        for host, requests in counts["requests"].items()
    ]
    yield _table("Hosts", ("host", "requests", "bytes", "at once, at most", "statuses"), hosts)
    most = [
        (host, who, count)
        for host, whos in counts["most_in_window"].items()
        for who, count in whos.items()
    ]
    window = f"most in any {counts['window_s']:g} s"
    yield _table("Keys and addresses", ("host", "key or address", window), most)
    kinds = [
        (kind, row["requests"], row["photos"], row["most_per_photo"])
        for kind, row in counts["kinds"].items()
    ]
    yield _table("Kinds", ("kind", "requests", "photos", "most for one photo"), kinds)
    yield _table("User-Agents", ("User-Agent", "requests"), counts["user_agents"].items())


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str | int, ...]]) -> str:
    found = list(rows)
    lines = [
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>"
        for row in found[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        lines.append(f"<tr><td>… and {len(found) - _SHOWN:,} more</td></tr>")
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else escape(cell)


def _window(params: Mapping[str, str]) -> float:
    text = params.get("window_s", "3600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadInput(f'window_s is "{text}"; it must be a number of seconds above 0')
    return seconds


def _object(body: str) -> dict[str, Any]:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the plan is no JSON: {error}") from error
    if not isinstance(members, dict):
        raise BadInput("the plan is no JSON object")
    return members


def _json(status: int, value: object) -> Reply:
    body = json.dumps(value).encode() + b"\n"
    return Reply(status, (("Content-Type", "application/json"),), body, chunked=False)
