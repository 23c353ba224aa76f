"""Answers inside the open editor: a code for selected text, a new threshold, a search, a check.

Label Studio asks when a coder highlights text or enters a question, and shows errors to nobody: an
answer holds only what `keep_answer` lets through, and nothing where there is nothing to say.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from label_config.advice import warnings_of
from label_config.cards import OTHER, title_of
from label_config.errors import CheckpointError, DataError
from label_config.record import EMR, Diagnosis, EvidenceSpan
from label_config.rules import RuleBook
from label_config.search import search_of
from label_config.suggestion import SuggestionSet
from label_config.task import ResultWriter, candidate_codes, read_emr
from label_config.taxonomy import Taxonomy
from label_config.validate import items_of, keep_answer

Item = dict[str, Any]
Suggest = Callable[[Sequence[EMR]], Sequence[SuggestionSet]]

SURE = 0.5
"""From this confidence on, the model's code for a text is taken; else the names are searched."""
FOUND = 0.6
"""Share of a text that a code's name must hold."""
LINES = 6
"""Lines that the questions' field keeps."""
HIGHLIGHTS = 3
"""Places that a search highlights."""
_NUMBER = re.compile(r"(?:≥|>=)?\s*(\d{1,3}|0?[.,]\d+)\s*%?")
_ANSWER = re.compile(r"^(?:≥ \d+ %: |⚠ |\? )| → ")
_THRESHOLD_LINE = re.compile(r"≥ (\d{1,3}) %")


def answer(
    task: Mapping[str, Any],
    context: Mapping[str, Any],
    *,
    suggest: Suggest,
    taxonomy: Taxonomy,
    rules: RuleBook,
    fresh: str | None = None,
) -> list[Item]:
    """The result that the editor takes over; empty where there is nothing to say.

    `suggest` is the model's. `fresh` is the random part of new regions' ids. Raises DataError for a
    task that `build_task` did not make.
    """
    fresh = fresh or secrets.token_hex(6)
    asked = _Asked(task, context, suggest, taxonomy, rules, fresh)
    questions = _texts(context, "ask")
    regions = items_of(context.get("result"), "evidence")
    if questions:
        result = asked.question(questions)
    else:
        result = asked.region(regions[-1]) if regions else []
    return keep_answer(result, task, context, fresh=fresh)[0]


@dataclass
class _Asked:
    """One request: what the editor shows, and who can be asked."""

    task: Mapping[str, Any]
    context: Mapping[str, Any]
    suggest: Suggest
    taxonomy: Taxonomy
    rules: RuleBook
    fresh: str
    emr: EMR = field(init=False)

    def __post_init__(self) -> None:
        self.emr = read_emr(self.task)
        self._listed = candidate_codes(self.task)
        places = {code: place for place, code in enumerate(self._listed, start=1)}
        self._writer = ResultWriter(self.emr, places, self.taxonomy, suffix=self.fresh)

    # -- highlighted text ---------------------------------------------------------------------

    def region(self, region: Item) -> list[Item]:
        """A code for text that was highlighted as evidence for some other code."""
        if region["value"].get("labels") != [OTHER] or not isinstance(region.get("id"), str):
            return []
        text = str(region["value"].get("text") or "")
        code = next(self._codes_for(text), None)
        return self._writer.relabel(region, code) if code else []

    def _codes_for(self, text: str) -> Iterator[str]:
        """Codes for a text, the best first: what the model reads in it, then names like it."""
        text = " ".join(text.split())[:200]
        if not text:
            return
        reading = self._reading(EMR("selection", {}, (Diagnosis(text),)))
        sure = [s.code for s in reading.suggestions if s.confidence >= SURE] if reading else []
        named = [c for c, share in search_of(self.taxonomy).find(text) if share >= FOUND]
        yield from (code for code in dict.fromkeys([*sure, *named]) if code in self.taxonomy)

    def _reading(self, emr: EMR) -> SuggestionSet | None:
        """What the model says; None before there is one: names can be searched without it."""
        try:
            return self.suggest([emr])[0]
        except CheckpointError:
            return None

    # -- questions ----------------------------------------------------------------------------

    def question(self, questions: Sequence[str]) -> list[Item]:
        """A number is a threshold, ? asks the rules, a code is added, and words are searched.

        The editor drops an answer when the next question is already there, so every line that is
        not an answer is answered.
        """
        said = [line for line in questions if _ANSWER.search(line)]
        codes, spans = self._codes(), list[EvidenceSpan]()
        for question in (line.strip() for line in questions if not _ANSWER.search(line)):
            number = _NUMBER.fullmatch(question)
            if number:
                new = [self._threshold(_share(number[1]), codes, said)]
            elif question == "?":
                new = self._check(codes) or ["? no rule has anything to say"]
            else:
                new = self._add(question, codes, spans)
            said = list(dict.fromkeys([*new, *said]))[:LINES]
        ask = {"from_name": "ask", "to_name": "emr", "type": "textarea", "value": {"text": said}}
        return [*self._writer.codes(codes), *self._writer.evidence(spans), ask]

    def _threshold(self, share: float, codes: list[str], said: Sequence[str]) -> str:
        """Tick by a new threshold; codes on the same side of both keep the coder's decision."""
        suggested = self._reading(self.emr)
        if suggested is None:
            return "? no model serves yet"
        lines = [match for line in said if (match := _THRESHOLD_LINE.match(line))]
        before = int(lines[0][1]) / 100 if lines else suggested.threshold
        new = list(codes)
        for s in suggested.suggestions:
            if s.code not in self._listed or (s.confidence >= before) == (s.confidence >= share):
                continue
            if s.confidence >= share and s.code not in new:
                new.append(s.code)
            elif s.confidence < share and s.code in new:
                new.remove(s.code)
        ticked = len([code for code in new if code in self._listed])
        if not ticked:  # an answer cannot empty a control
            return f"≥ {round(100 * before)} %: kept, no code would stay ticked"
        codes[:] = new
        return f"≥ {round(100 * share)} %: {ticked} listed codes ticked"

    def _add(self, question: str, codes: list[str], spans: list[EvidenceSpan]) -> list[str]:
        """Add the code that the question means, and highlight its words in the record."""
        try:
            found = [self.taxonomy.normalise(question)]
        except DataError:
            found = list(self._codes_for(question))
        if not found:
            return [f"{question} → nothing found"]
        code, rest = found[0], found[1:4]
        before = self._check(codes)
        if code not in codes:
            codes.append(code)
        spans += _places(self.emr, question, code)
        said = f"{question} → {code} {title_of(code, self.taxonomy)}".strip()
        said += f" · or {', '.join(rest)}" if rest else ""
        return [said, *(line for line in self._check(codes) if line not in before)]

    def _check(self, codes: Sequence[str]) -> list[str]:
        return [f"⚠ {w.text}" for w in warnings_of(self.emr, codes, {}, self.rules)][: LINES - 1]

    def _codes(self) -> list[str]:
        """What the coder has now, the principal diagnosis first."""
        listed = [code for code in _texts(self.context, "codes") if code in self._listed]
        paths = [p for i in items_of(self.context.get("result"), "other") for p in _paths(i)]
        principal = _texts(self.context, "principal")
        codes = list(dict.fromkeys([*listed, *(path[-1] for path in paths)]))
        return sorted(codes, key=lambda code: code not in principal)


def _texts(context: Mapping[str, Any], name: str) -> list[str]:
    key = "text" if name == "ask" else "choices"
    found = [i["value"].get(key) for i in items_of(context.get("result"), name)]
    values = [v for part in found for v in (part if isinstance(part, list) else [part])]
    return [v for v in values if isinstance(v, str) and v.strip()]


def _paths(item: Item) -> list[list[str]]:
    paths = item["value"].get("taxonomy")
    return (
        [p for p in paths if isinstance(p, list) and p and isinstance(p[-1], str)]
        if (isinstance(paths, list))
        else []
    )


def _share(number: str) -> float:
    value = float(number.replace(",", "."))
    return min(value if value < 1 else value / 100, 1.0)


def _places(emr: EMR, words: str, code: str) -> list[EvidenceSpan]:
    """Where the record holds the words; the last one may be only begun."""
    pattern = re.compile(rf"(?<!\w){re.escape(words)}\w*", re.IGNORECASE)
    found = [
        EvidenceSpan(code, section, *match.span())
        for section, text in emr.texts()
        for match in pattern.finditer(text)
    ]
    return found[:HIGHLIGHTS]
