"""Licences: of which sources an artifact is made, under what terms, and whether a rule forbids one of them.

An artifact's licences are those of every external file that its chain of inputs has read, as recorded when it was
built. Blocklists only take away and are not counted. A source that states none counts as `unknown`, and so does a chain
with a gap in it.

Names are those of SPDX where a licence has one. They are compared without regard to case, and with spaces and
underscores as hyphens; expressions (`GPL-2.0-only AND Apache-2.0`) are read as SPDX 2.3 annex D has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from artifacts.digest import SHORT
from artifacts.errors import RunError, UserError
from artifacts.manifest import InputEntry, Manifest, SourceEntry
from artifacts.store import Artifact, Store

UNKNOWN = "unknown"
_NOT_STATED = ("", "unknown", "noassertion", "none", "null")
_NOT_DATA = frozenset({"blocklist"})
_WORD = re.compile(r"\(|\)|(?<=[\s)])(?:and|or|AND|OR)(?=[\s(])")


def normalised(name: str) -> str:
    """A licence's name or a pattern for one, as they are compared."""
    return re.sub(r"[\s_]+", "-", name.strip()).lower()


def stated(licence: str | None) -> str:
    """A licence as it is listed: its own spelling with single spaces; `unknown` where none is stated."""
    text = " ".join((licence or "").split())
    return UNKNOWN if normalised(text) in _NOT_STATED else text


# --- whose licences an artifact carries


def licences_of(artifact: Artifact) -> list[str]:
    """The licences of every source in an artifact, sorted, each once."""
    return licences_in(artifact.store, artifact.manifest)


def licences_in(store: Store, manifest: Manifest) -> list[str]:
    """The same for a manifest that may not be committed yet. Empty for what was made from no source at all."""
    spelled: dict[str, str] = {}
    for source in sources_in(store, manifest):
        name = UNKNOWN if source is None else stated(source.licence)
        spelled.setdefault(normalised(name), name)
    return sorted(spelled.values(), key=normalised)


def sources_in(store: Store, manifest: Manifest) -> Iterator[SourceEntry | None]:
    """The sources of a manifest and of all that it was made from; None where the chain has a gap."""
    waiting, seen = [manifest], set[tuple[str, str]]()
    while waiting:
        current = waiting.pop(0)
        yield from (source for source in current.sources if source.role not in _NOT_DATA)
        for entry in current.inputs:
            stage = entry.artifact.partition("@")[0]
            if (stage, entry.content) in seen:
                continue
            seen.add((stage, entry.content))
            above = artifact_above(store, entry)
            if above is None:
                yield None
            else:
                waiting.append(above.manifest)


def artifact_above(store: Store, entry: InputEntry) -> Artifact | None:
    """The artifact that is an input, or another of its stage with the same content; None if there is none."""
    stage, _, recipe = entry.artifact.partition("@")
    content = entry.content[:SHORT]
    folders = sorted(store.list_dir(stage), key=lambda folder: folder != f"{recipe}.{content}")
    for folder in folders:
        if folder.endswith(f".{content}") and store.holds(f"{stage}/{folder}/manifest.json"):
            found = Artifact(store, stage, folder.partition(".")[0], content)
            with suppress(RunError, UserError):
                if found.manifest.content == entry.content:
                    return found
    return None


# --- rules


@dataclass(frozen=True)
class Denial:
    """A licence that a rule forbids."""

    licence: str
    rule: str


def denied(licence: str | None, rules: Sequence[str]) -> Denial | None:
    """The first rule that forbids a licence, or None.

    A rule is a name or a pattern with `*` and `?`. An expression with AND is forbidden if either side is, one with OR
    if each side is: the other could be chosen. A rule with AND or OR in it is held against the whole.
    """
    name = stated(licence)
    for rule in rules:
        if re.search(r"-(and|or)-", normalised(rule)) and fnmatchcase(normalised(name), normalised(rule)):
            return Denial(name, rule)
    rule_of = {atom: _matching(atom, rules) for atom in _atoms(name)}
    found = _evaluate(name, rule_of)
    return Denial(name, found) if found else None


def _matching(atom: str, rules: Sequence[str]) -> str | None:
    """The rule that forbids one licence; with an exception (`… WITH …`) also that which forbids it without."""
    names = {normalised(atom), normalised(re.split(r"\s+with\s+", atom, flags=re.IGNORECASE)[0])}
    return next((rule for rule in rules if any(fnmatchcase(name, normalised(rule)) for name in names)), None)


def _tokens(expression: str) -> list[str]:
    tokens, end = [], 0
    for word in _WORD.finditer(expression):
        tokens += [expression[end : word.start()].strip(), word[0].upper()]
        end = word.end()
    return [token for token in [*tokens, expression[end:].strip()] if token]


def _atoms(expression: str) -> list[str]:
    return [token for token in _tokens(expression) if token not in ("(", ")", "AND", "OR")]


def _evaluate(expression: str, rule_of: dict[str, str | None]) -> str | None:
    """The rule that forbids an expression; AND binds tighter than OR. A text that is none is all of its parts."""
    tokens = _tokens(expression)
    place = 0

    def any_of() -> str | None:
        nonlocal place
        sides = [all_of()]
        while place < len(tokens) and tokens[place] == "OR":
            place += 1
            sides.append(all_of())
        return sides[-1] if all(sides) else None

    def all_of() -> str | None:
        nonlocal place
        found = one()
        while place < len(tokens) and tokens[place] == "AND":
            place += 1
            side = one()
            found = found or side
        return found

    def one() -> str | None:
        nonlocal place
        token = tokens[place]
        place += 1
        if token != "(":
            return rule_of[token]
        found = any_of()
        if tokens[place] != ")":
            raise IndexError
        place += 1
        return found

    try:
        found = any_of()
        if place == len(tokens):
            return found
    except (IndexError, KeyError):
        pass
    return next((rule for rule in rule_of.values() if rule), None)


def explain(denials: Iterable[tuple[str, Denial]]) -> str:
    """One line a denied source: `(where, denial)`."""
    lines = [f"{where}: licence {denial.licence}, which {denial.rule!r} forbids" for where, denial in denials]
    return "\n".join(dict.fromkeys(lines))
