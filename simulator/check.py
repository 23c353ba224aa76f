"""Compares a dataset with real records: rates of naming, denying, noise, lengths, and baselines.

Each row is {id, target, low, high, value, met}; `met` is None where the code set leaves nothing to
measure. The figures of real records stand with the wording (`checks`) or below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from label_config.errors import DataError
from label_config.record import EMR, Coding
from simulator.baselines import (
    Regression,
    Texts,
    closed_world_accuracy,
    keyword_f1,
    name_matcher,
    names_found,
)
from simulator.hospital import PROFILES, WIDE, Hospital, Profile
from simulator.knowledge import FOLDER, WORDING_FILE, Pack, load_pack
from simulator.reader import Dataset, read_dataset

TOLERANCE = 0.07
AT_MOST = 10_000
"""EMRs that the rates are measured on."""
TRAINING_EMRS = 6_000
"""EMRs that the regression of the published bands learns from."""
HELD_OUT = 1_000
"""EMRs of the wide code set that choose its threshold; twice as many test it."""

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

    def as_dict(self) -> dict[str, Any]:
        """For tables and JSON."""
        return {
            "id": self.id,
            "target": self.target,
            "low": self.low,
            "high": self.high,
            "value": self.value,
            "met": self.met,
        }


def check_dataset(
    folder: Path,
    *,
    baselines: bool = True,
    full_codes: int = 600,
    progress: Callable[[str], None] | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> list[Row]:
    """Every row for a dataset that `write_dataset` made.

    `baselines` adds the models' bands, which take minutes; `progress` hears each step's name,
    `report` also how many of its codes are done.
    """

    def tell(step: str, done: int = 0, total: int = 0) -> None:
        if progress is not None and not done:
            progress(step)
        if report is not None:
            report(step, done, total)

    tell("rates")
    dataset = read_dataset(folder, at_most=AT_MOST)
    pack = load_pack(dataset.settings["language"])
    codes = pack.codes[: dataset.settings["codes"]]
    rows = rate_rows(dataset, pack, codes)
    rows += noise_rows(dataset)
    if baselines:
        rows += baseline_rows(dataset, pack, codes, tell)
        rows += wide_rows(dataset, pack, full_codes, tell)
    return rows


def rate_rows(dataset: Dataset, pack: Pack, codes: Sequence[str]) -> list[Row]:
    """What real records were measured for, on up to AT_MOST EMRs."""
    emrs, gold = dataset.emrs[:AT_MOST], dataset.gold[:AT_MOST]
    profile = PROFILES[dataset.settings["profile"]]
    named = dataset.shares[: len(emrs)]
    texts = [emr.long_text.lower() for emr in emrs]
    titles = {code: pack.taxonomy.title(code).lower() for code in codes}
    pairs = [(i, code) for i, coding in enumerate(gold) for code in coding.codes]
    lines = [emr.diagnosis_text.lower() for emr in emrs]
    in_text = _mean(titles[code] in texts[i] for i, code in pairs)
    in_line = _mean(titles[code] in lines[i] for i, code in pairs if named[i] != "raw")
    rows = [
        _near("standard name in the long text", 0.22, in_text),
        _near("standard name among the diagnoses", 0.43, in_line),
        Row("codes per EMR", 5.0, 4.0, 6.0, _mean(len(coding.codes) for coding in gold)),
        _near(
            "diagnosis names per gold code",
            0.82,
            sum(len(e.diagnoses) for e, s in zip(emrs, named, strict=True) if s != "raw")
            / max(1, sum(len(c.codes) for c, s in zip(gold, named, strict=True) if s != "raw")),
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
    """Each kind of error against the rate asked for, ±0.01, over EMRs with diagnosis names."""
    ids = {
        emr.emr_id
        for emr, share in zip(dataset.emrs, dataset.shares, strict=True)
        if share != "raw"
    }
    codes = sum(len(coding.codes) for coding in dataset.gold if coding.emr_id in ids)
    counts = Counter(kind for emr_id, kind in dataset.errors if emr_id in ids)
    asked = dataset.settings["noise"]
    return [
        Row(
            f"noise: {kind}",
            asked[kind],
            round(asked[kind] - 0.01, 4),
            round(asked[kind] + 0.01, 4),
            round(counts[kind] / codes, 4) if codes else None,
        )
        for kind in ("vague", "wrong", "missing", "extra")
    ]


def baseline_rows(
    dataset: Dataset, pack: Pack, codes: Sequence[str], tell: Callable[..., None]
) -> list[Row]:
    """Name keywords and TF-IDF regression on clean codes, at home and in the other hospital's
    words; closed-world accuracy of the diagnosis names.
    """
    train, validation, test = (_texts(dataset, s) for s in ("train", "validation", "test"))
    if len(train[0]) < 200 or len(validation[0]) < 50 or len(test[0]) < 50:
        raise DataError(
            "the baselines need at least 200 EMRs to train, 50 to validate and 50 to test, got "
            f"{len(train[0])}, {len(validation[0])} and {len(test[0])}"
        )
    step = f"regression, {len(codes)} codes"
    tell(step)
    model = Regression(codes, report=lambda done, total: tell(step, done, total))
    micro, macro = model.fit(train, validation).f1(test)
    settings = dataset.settings
    other = "B" if settings["bank"] == "A" else "A"
    away, _ = model.f1(_fresh(pack, settings, settings["codes"], other, max(400, len(test[0]))))
    few = len(codes) <= WIDE
    bands = ((0.65, 0.85), (0.45, 0.70)) if few else ((0.0, 1.0), (0.0, 1.0))
    accuracy = closed_world_accuracy(dataset, pack, codes)
    return [
        Row(
            "name keywords: micro-F1",
            None,
            0.0,
            round(micro - 0.10, 4),
            keyword_f1(*test, pack, codes),
        ),
        Row("TF-IDF regression: micro-F1", None, *bands[0], micro),
        Row("TF-IDF regression: macro-F1", None, 0.0, 1.0, macro),
        Row("closed-world name accuracy", None, *bands[1], accuracy),
        Row(
            f"drop from hospital {settings['bank']} to {other}",
            None,
            -1.0,
            1.0,
            round(micro - away, 4),
        ),
    ]


def wide_rows(
    dataset: Dataset, pack: Pack, full_codes: int, tell: Callable[..., None]
) -> list[Row]:
    """The regression over the full code set, on EMRs of its own: rare codes must stay hard."""
    codes, settings = pack.codes[:full_codes], dataset.settings
    tell(f"writing EMRs over {len(codes)} codes")
    wide = _fresh(pack, settings, full_codes, settings["bank"], TRAINING_EMRS + 3 * HELD_OUT)
    cuts = (TRAINING_EMRS, TRAINING_EMRS + HELD_OUT)
    train, validation, test = (
        (wide[0][part], wide[1][part])
        for part in (slice(cuts[0]), slice(*cuts), slice(cuts[1], None))
    )
    step = f"regression, {len(codes)} codes"
    tell(step)
    model = Regression(codes, report=lambda done, total: tell(step, done, total))
    micro, macro = model.fit(train, validation).f1(test)
    return [
        Row(f"{len(codes)} codes: regression micro-F1", None, 0.0, 1.0, micro),
        Row(f"{len(codes)} codes: regression macro-F1", None, 0.0, 0.45, macro),
    ]


def _fresh(pack: Pack, settings: dict[str, Any], codes: int, bank: Any, n: int) -> Texts:
    """EMRs of a hospital with the next seed."""
    hospital = Hospital(
        pack, profile=settings["profile"], codes=codes, seed=settings["seed"] + 1, bank=bank
    )
    simulated = list(hospital.emrs(n))
    return [s.emr.long_text for s in simulated], [set(s.gold.codes) for s in simulated]


def _texts(dataset: Dataset, split: str) -> Texts:
    most = TRAINING_EMRS if split == "train" else 2 * HELD_OUT
    places = dataset.of(split=split)[:most]
    texts = [dataset.emrs[i].long_text for i in places]
    return texts, [set(dataset.gold[i].codes) for i in places]


def _mean(values: Iterable[float]) -> float:
    items = [float(value) for value in values]
    return round(sum(items) / len(items), 4) if items else 0.0


def _size(text: str, pack: Pack) -> int:
    return len(text.split()) if pack.wording.unit == "words" else len(text)


def _words(profile: Profile, codes: Sequence[str]) -> float:
    return (profile.words_wide if len(codes) > WIDE else None) or profile.words


def _near(name: str, target: float, value: float | None) -> Row:
    rounded = None if value is None else round(value, 4)
    return Row(name, target, round(target - TOLERANCE, 4), round(target + TOLERANCE, 4), rounded)


def _around(name: str, target: float, value: float) -> Row:
    low, high = round(target * (1 - TOLERANCE), 1), round(target * (1 + TOLERANCE), 1)
    return Row(name, target, low, high, round(value, 1))
