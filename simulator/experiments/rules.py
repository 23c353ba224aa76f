"""Experiment: how often coders break each rule, and whether a warning points at a real error.

The model whose suggestions are checked is the lexicon of highlights, fitted on two thirds of the
cases. CodiEsp lists codes in no order, so the rules about the first code are left out; it gives age
and sex only in the text, where English cases mostly begin with them. Rules that ask for a further
code where the record supports one say nothing: all that the model supports is among its codes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from label_config.errors import ConfigError
from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal
from label_config.record import EMR, Sex
from label_config.rules import Coded, RuleBook, RuleWarning
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import Taxonomy
from simulator.experiments.cells import Cell, finished, hash_of_all
from simulator.experiments.codiesp_data import Language, read_cases
from simulator.experiments.kept import NOTHING, Kept
from training.lexicon import Lexicon

SHOWN = ("language", "rule", "coders_break", "fires", "firings", "points_at_error", "chance")
LANGUAGES: tuple[Language, ...] = ("en", "es")
TICKED = 0.5
"""From this confidence on, a code counts as suggested."""
TEST_SHARE = 1 / 3
ALL = "all rules"
BLOCK_CHECKS = 40
_PATIENT = re.compile(r"(\d{1,3})[- ]years?[- ]old (?:\w+ ){0,2}?(man|male|boy|woman|female|girl)")
_SEXES: dict[str, Sex] = {
    **dict.fromkeys(("man", "male", "boy"), "male"),
    **dict.fromkeys(("woman", "female", "girl"), "female"),
}


@dataclass
class Count:
    """What was seen of one rule."""

    cases: int = 0
    """Cases in which it fired."""
    firings: int = 0
    right: int = 0
    """Firings that name a code which is wrong."""
    chance: float = 0.0
    """Firings that would do so if they named as many different codes of the case at random."""


@dataclass
class Seen:
    """Counts by rule over a set of cases."""

    cases: int = 0
    by_rule: dict[str, Count] = field(default_factory=dict)

    def add(
        self, warnings: Sequence[RuleWarning], there: Sequence[str], gold: Collection[str]
    ) -> None:
        """Count what the rules say of the codes that are there, against the right ones."""
        self.cases += 1
        right = sum(code in gold for code in there)
        for rule in {name for w in warnings for name in (w.rule, ALL)}:
            self.by_rule.setdefault(rule, Count()).cases += 1
        for warning in warnings:
            named = len(warning.codes)
            for rule in (warning.rule, ALL):
                count = self.by_rule[rule]
                count.firings += 1
                count.right += any(code not in gold for code in warning.codes)
                count.chance += 1 - comb(right, named) / comb(len(there), named)


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Measure every rule that CodiEsp can break; `data` is the folder of its cases.

    `kept` is where finished rows are, per language and seed. Raises ConfigError without `data`.
    """
    if data is None:
        raise ConfigError("the rules experiment needed the folder of CodiEsp's cases (--data)")
    taxonomy = Taxonomy.icd10cm()
    book = RuleBook(taxonomy)
    languages = LANGUAGES[:1] if quick else LANGUAGES
    corpora = {language: _Cases.read(data, language, taxonomy) for language in languages}
    cells = [
        Cell(
            {"language": language, "seed": seed, "data": cases.hash},
            partial(cases.measured, seed, book, language),
        )
        for language, cases in corpora.items()
        for seed in seeds
    ]
    rows, digest = finished(cells, len(cells), kept=kept, progress=progress)
    blocked = sum(cases.blocked(book) for cases in corpora.values())
    return Measured(rows, _goals(rows, blocked), tuple(seeds), digest, SHOWN)


@dataclass
class _Cases:
    """CodiEsp in one language; codes that the release lost are left out."""

    emrs: list[EMR]
    gold: list[tuple[str, ...]]
    codings: list[Any]
    taxonomy: Taxonomy

    @classmethod
    def read(cls, folder: Path, language: Language, taxonomy: Taxonomy) -> _Cases:
        emrs, codings = read_cases(folder, language)
        kept = []
        for coding in codings:
            known = tuple(code for code in coding.codes if code in taxonomy)
            spans = tuple(span for span in coding.evidence if span.code in known)
            kept.append(replace(coding, codes=known, evidence=spans))
        return cls([_with_patient(e) for e in emrs], [c.codes for c in kept], kept, taxonomy)

    @cached_property
    def hash(self) -> str:
        """Of all cases and their codes."""
        return hash_of_all([data_hash(self.emrs), data_hash(self.codings)])

    def measured(
        self, seed: int, book: RuleBook, language: str
    ) -> tuple[str, list[dict[str, Any]]]:
        """The hash of the cases, and the rows."""
        return self.hash, self.measure(seed, book, language)

    def measure(self, seed: int, book: RuleBook, language: str) -> list[dict[str, Any]]:
        """One row per rule that fired on coders or on the model."""
        asked = [rule for rule in book.rules if rule not in book.order_rules]
        order = np.random.default_rng(seed).permutation(len(self.emrs))
        test, fit = np.split(order, [round(TEST_SHARE * len(order))])
        coders, model = Seen(), Seen()
        for n in range(len(self.emrs)):
            coders.add(self._warnings(book, asked, n, self.gold[n]), self.gold[n], self.gold[n])
        lexicon, codes = self._lexicon(fit.tolist())
        scores_NK = lexicon.scores([self.emrs[n] for n in test])
        for n, scores_K in zip(test, scores_NK, strict=True):
            said = tuple(codes[k] for k in np.flatnonzero(scores_K >= TICKED))
            model.add(self._warnings(book, asked, n, said), said, self.gold[n])
        rules = sorted({*coders.by_rule, *model.by_rule})
        return [_row(language, seed, rule, coders, model) for rule in rules]

    def blocked(self, book: RuleBook) -> int:
        """Tasks whose prediction a warning changed; what a coder may do is the same anyway."""
        off = RuleBook(book.taxonomy, off={rule.split("/")[0] for rule in book.rules})
        changed = 0
        for emr, codes in list(zip(self.emrs, self.gold, strict=True))[:BLOCK_CHECKS]:
            said = SuggestionSet(emr.emr_id, tuple(Suggestion(c, 0.9) for c in codes), "coders")
            tasks = [
                build_task(emr, said, self.taxonomy, batch="b", order=1, rules=rules)
                for rules in (book, off)
            ]
            changed += tasks[0]["predictions"] != tasks[1]["predictions"]
        return changed

    def _lexicon(self, fit: Sequence[int]) -> tuple[Lexicon, list[str]]:
        codings = [self.codings[n] for n in fit]
        count = Counter(code for coding in codings for code in coding.codes)
        codes = sorted(count)
        emrs = [self.emrs[n] for n in fit]
        return Lexicon.fit(emrs, codings, self.taxonomy, codes), codes

    def _warnings(
        self, book: RuleBook, asked: Sequence[str], n: int, codes: tuple[str, ...]
    ) -> list[RuleWarning]:
        emr = self.emrs[n]
        return book.check(Coded(codes, emr.sex, emr.age), only=asked)


def _with_patient(emr: EMR) -> EMR:
    """Age and sex from the first sentence that tells both."""
    match = _PATIENT.search(emr.long_text)
    if match is None or int(match[1]) > 120:
        return emr
    return replace(emr, age=float(match[1]), sex=_SEXES[match[2]])


def _row(language: str, seed: int, rule: str, coders: Seen, model: Seen) -> dict[str, Any]:
    broken, fired = (seen.by_rule.get(rule, Count()) for seen in (coders, model))
    return {
        "language": language,
        "rule": rule,
        "seed": seed,
        "coders_break": broken.cases / coders.cases,
        "fires": fired.cases / model.cases,
        "firings": fired.firings,
        "points_at_error": fired.right / fired.firings if fired.firings else None,
        "chance": fired.chance / fired.firings if fired.firings else None,
    }


def _goals(rows: Sequence[dict[str, Any]], blocked: int) -> list[dict[str, Any]]:
    """What no warning may do, and the median over languages and seeds of what they point at."""
    whole = [row for row in rows if row["rule"] == ALL and row["firings"]]
    above = [row["points_at_error"] - row["chance"] for row in whole]
    lift = np.median(above) if above else float("nan")
    return [
        goal("warnings that change a prediction", "<= 0", blocked),
        goal("firings at an error, above chance", ">= 0", float(lift)),
    ]
