"""The rates of a dataset against those of real records: names, denials, sections, lengths, noise.

The figures of real records stand with the wording (`checks`) or below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from label_config.record import EMR, Coding
from simulator.baselines import name_matcher, names_found
from simulator.hospital import PROFILES, WIDE, Profile
from simulator.knowledge import FOLDER, WORDING_FILE
from simulator.pack import Pack
from simulator.quality import KINDS
from simulator.reader import Dataset

TOLERANCE = 0.07
NOISE_TOLERANCE = 0.01
SECTION_SHARES = {
    "history": 0.31,
    "past": 0.09,
    "personal": 0.04,
    "family": 0.02,
    "signs": 0.22,
    "tests": 0.31,
}
"""Share of the text of a record in which every section is present."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure against its band."""

    id: str
    target: float | None
    low: float
    high: float
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the value lies in the band; None when there was nothing to measure."""
        return None if self.value is None else self.low <= self.value <= self.high

    @property
    def band(self) -> str:
        """Where the value should lie; empty where it is only reported."""
        return (
            ""
            if self.high - self.low >= 1.0 and self.high <= 1.0
            else f"{self.low:g} to {self.high:g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For tables and JSON."""
        return {**asdict(self), "met": self.met}


def rate_rows(dataset: Dataset, pack: Pack, codes: Sequence[str]) -> list[Row]:
    """What real records were measured for."""
    emrs, gold = dataset.emrs, dataset.gold
    profile = PROFILES[dataset.settings["profile"]]
    named = dataset.shares
    texts = [emr.long_text.lower() for emr in emrs]
    titles = {code: pack.taxonomy.title(code).lower() for code in codes}
    pairs = [(i, code) for i, coding in enumerate(gold) for code in coding.codes]
    lines = [emr.diagnosis_text.lower() for emr in emrs]
    names = [len(e.diagnoses) for e, s in zip(emrs, named, strict=True) if s != "raw"]
    sizes = [len(c.codes) for c, s in zip(gold, named, strict=True) if s != "raw"]
    in_text = _mean(titles[code] in texts[i] for i, code in pairs)
    in_line = _mean(titles[code] in lines[i] for i, code in pairs if named[i] != "raw")
    rows = [
        _near("standard name in the long text", 0.22, in_text),
        _near("standard name among the diagnoses", 0.43, in_line),
        Row("codes per EMR", 5.0, 4.0, 6.0, _mean(len(coding.codes) for coding in gold)),
        _near(
            "diagnosis names per gold code",
            0.82,
            sum(names) / sum(sizes) if sizes else None,
        ),
        _around("words per EMR", _words(profile, codes), _mean(_size(t, pack) for t in texts)),
    ]
    rows += _section_rows(emrs, pack, profile.with_signs, profile.with_tests)
    rows += _keyword_rows(emrs, gold, pack)
    if len(codes) <= 60:
        matcher = name_matcher(pack, codes)
        others = _mean(
            len(names_found(matcher, text) - set(coding.codes))
            for text, coding in zip(texts, gold, strict=True)
        )
        rows.append(Row("other codes' names per EMR", 1.2, 1.2 - 0.25, 1.2 + 0.25, others))
    return rows


def _section_rows(
    emrs: Sequence[EMR], pack: Pack, with_signs: float, with_tests: float
) -> list[Row]:
    names = pack.wording.sections
    rows = [
        _near(
            "specialist condition present",
            with_signs,
            _mean(names["signs"] in e.sections for e in emrs),
        ),
        _near(
            "auxiliary examination present",
            with_tests,
            _mean(names["tests"] in e.sections for e in emrs),
        ),
    ]
    kept = [names[key] for key in SECTION_SHARES]
    full = [e for e in emrs if all(name in e.sections for name in kept)]
    words = Counter[str]()
    for emr in full:
        words.update({name: len(emr.sections[name]) for name in kept})
    total = sum(words.values())
    for key, share in SECTION_SHARES.items():
        value = words[names[key]] / total if total else None
        rows.append(_near(f"share of text: {names[key].lower()}", share, value))
    return rows


def _keyword_rows(emrs: Sequence[EMR], gold: Sequence[Coding], pack: Pack) -> list[Row]:
    raw = yaml.safe_load((FOLDER / pack.language / WORDING_FILE).read_text("utf-8"))["checks"]
    sections = pack.wording.sections
    past = [emr.sections.get(sections["past"], "") for emr in emrs]
    family = [emr.sections.get(sections["family"], "") for emr in emrs]
    rows: list[Row] = []
    for name, figures in raw["keywords"].items():
        word = re.compile(figures["pattern"], re.IGNORECASE)
        if "codes" in figures:
            prefixes = tuple(figures["codes"])
            has = [any(c.startswith(prefixes) for c in coding.codes) for coding in gold]
            says = [word.search(emr.long_text) is not None for emr in emrs]
            both = sum(h and s for h, s in zip(has, says, strict=True))
            precision = both / sum(says) if any(has) else None
            recall = both / sum(has) if any(has) else None
            rows.append(_near(f"keyword precision: {name}", figures["precision"], precision))
            rows.append(_near(f"keyword recall: {name}", figures["recall"], recall))
        if "denied" in figures:
            denied = re.compile(raw["denied"].replace("{word}", figures["pattern"]), re.IGNORECASE)
            value = _mean(denied.search(text) is not None for text in past)
            rows.append(_near(f"denied: {name}", figures["denied"], value))
        if "inherited" in figures:
            value = _mean(word.search(text) is not None for text in family)
            rows.append(_near(f"in family history: {name}", figures["inherited"], value))
    return rows


def noise_rows(dataset: Dataset) -> list[Row]:
    """Each kind of error against the rate asked for, over EMRs with diagnosis names."""
    asked, rates = dataset.settings["noise"], dataset.error_rates()
    return [
        Row(
            f"noise: {kind}",
            asked[kind],
            round(asked[kind] - NOISE_TOLERANCE, 4),
            round(asked[kind] + NOISE_TOLERANCE, 4),
            None if rates is None else round(rates[kind], 4),
        )
        for kind in KINDS
    ]


def _mean(values: Iterable[float]) -> float | None:
    items = [float(value) for value in values]
    return round(sum(items) / len(items), 4) if items else None


def _size(text: str, pack: Pack) -> int:
    return len(text.split()) if pack.wording.unit == "words" else len(text)


def _words(profile: Profile, codes: Sequence[str]) -> float:
    return (profile.words_wide if len(codes) > WIDE else None) or profile.words


def _near(name: str, target: float, value: float | None) -> Row:
    rounded = None if value is None else round(value, 4)
    low, high = max(0.0, target - TOLERANCE), min(1.0, target + TOLERANCE)
    return Row(name, target, round(low, 4), round(high, 4), rounded)


def _around(name: str, target: float, value: float | None) -> Row:
    low, high = round(target * (1 - TOLERANCE), 1), round(target * (1 + TOLERANCE), 1)
    return Row(name, target, low, high, None if value is None else round(value, 1))
