"""What the coding rules advise on one record: a quiet list that follows the coder's ticks.

The rules run when the task is built, over every code that the screen lists. Each line then names
the rows of the list that must be ticked (`y3`), unticked (`n4`) or chosen as the principal
diagnosis (`p1`) for it to hold; the interface's style sheet shows and hides it by these.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from label_config.html import shown
from label_config.record import EMR
from label_config.rules import SUPPORTED, Coded, RuleBook, RuleWarning
from label_config.taxonomy import Taxonomy

MOST_LINES = 40
ASKS_FOR_MORE = ("use-additional", "not-specific")
"""Rules that speak of a code which is not there yet."""

Line = tuple[RuleWarning, str]
"""A warning and the classes under which it is shown."""


@lru_cache(maxsize=8)
def default_rules(taxonomy: Taxonomy) -> RuleBook:
    """Every built-in rule."""
    return RuleBook(taxonomy)


def warnings_of(
    emr: EMR, codes: Sequence[str], confidence: Mapping[str, float], rules: RuleBook
) -> list[RuleWarning]:
    """What the rules say of these codes, the principal diagnosis first; each text once."""
    found = rules.check(_coded(emr, codes, confidence))
    return list({warning.text: warning for warning in found}.values())


def advice_html(
    emr: EMR, listed: Sequence[str], confidence: Mapping[str, float], rules: RuleBook
) -> str:
    """The list for the Markdown tag, as one HTML block; empty if no tick could earn advice.

    `listed` are the codes of the `codes` control in its order, `confidence` says how sure the
    model is of each code.
    """
    lines: dict[tuple[str, str], str] = {}
    for warning, classes in _lines(emr, listed, confidence, rules):
        lines.setdefault((warning.text, classes), _line_html(warning, classes))
    items = list(lines.values())[:MOST_LINES]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _lines(
    emr: EMR, listed: Sequence[str], confidence: Mapping[str, float], rules: RuleBook
) -> Iterator[Line]:
    places = {code: place for place, code in enumerate(listed, start=1)}
    by_order = rules.order_rules
    steady = [rule for rule in rules.rules if rule not in by_order]
    for warning in _every(rules, _coded(emr, listed, confidence), steady):
        yield warning, _ticked(warning.codes, places)
    for first in listed:
        order = (first, *(code for code in listed if code != first))
        for warning in _every(rules, _coded(emr, order, confidence), by_order):
            if warning.codes[0] == first:
                yield warning, f"p{places[first]} {_ticked(warning.codes, places)}"
    more = [rule for rule in steady if rule.split("/")[0] in ASKS_FOR_MORE]
    for missing in (code for code in confidence if confidence[code] >= SUPPORTED):
        others = [code for code in listed if code != missing]
        for warning in rules.check(_coded(emr, others, confidence), only=more):
            if warning.codes[-1] == missing and warning.codes[0] != missing:
                there = _ticked(warning.codes[:-1], places)
                yield warning, f"{there} n{places[missing]}" if missing in places else there


def _every(rules: RuleBook, coded: Coded, only: Collection[str]) -> Iterator[RuleWarning]:
    """Each warning, and those that it hides: a rule names only the first cause of a symptom."""
    for warning in rules.check(coded, only=only):
        yield warning
        named, codes = warning, coded.codes
        while len(named.codes) > 1:
            codes = tuple(code for code in codes if code != named.codes[1])
            again = rules.check(replace(coded, codes=codes), only=(named.rule,))
            same = [w for w in again if w.codes[0] == named.codes[0] and len(w.codes) > 1]
            if not same:
                break
            named = same[0]
            yield named


def _ticked(codes: Sequence[str], places: Mapping[str, int]) -> str:
    return " ".join(f"y{places[code]}" for code in codes if code in places)


def _coded(emr: EMR, codes: Sequence[str], confidence: Mapping[str, float]) -> Coded:
    return Coded(tuple(codes), emr.sex, emr.age, confidence)


def _line_html(warning: RuleWarning, classes: str) -> str:
    text, source = html.escape(shown(warning.text)), html.escape(shown(warning.source))
    return f'<li class="w {classes}">{text} <small>{source} · {warning.rule}</small></li>'
