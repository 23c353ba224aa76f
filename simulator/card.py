"""Data card: what a dataset holds, beside what the paper and real records show, with plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

from label_config.files import atomic_path
from label_config.record import EMR, Coding
from simulator.hospital import PROFILES, WIDE
from simulator.knowledge import FOLDER, WORDING_FILE
from simulator.plots import Plotted, draw
from simulator.quality import KINDS
from simulator.rates import Row
from simulator.reader import Dataset, read_dataset
from simulator.wording import Wording, load_wording

AT_MOST = 10_000
"""EMRs that the card's statistics are taken from."""
AGE_BAND = 10
"""Years per band of the text-free ceiling."""
PUBLISHED_SECTIONS = {"hph": ("0.62-0.65", "0.47"), "aph": ("0.60", "0.63-0.84")}
"""Share of EMRs with a specialist condition and with an auxiliary examination (paper, Table 1)."""


def write_card(folder: Path, rows: Sequence[Row] = ()) -> Path:
    """Write `CARD.md` and `card.png` for a dataset folder; return the card's path.

    `rows` are those of `check_dataset`, shown as a table.
    """
    dataset = read_dataset(folder, at_most=AT_MOST)
    about = json.loads((folder / "dataset.json").read_text("utf-8"))
    wording = load_wording(FOLDER / dataset.settings["language"] / WORDING_FILE)
    draw(_plotted(dataset, wording), folder / "card.png")
    parts = [
        _head(about),
        _statistics(dataset, wording, about),
        "![Length, codes per EMR, code frequencies and name errors](card.png)\n",
        _shares(dataset),
        _errors(dataset),
        _codes(dataset.gold),
    ]
    if rows:
        parts.append(_checks(rows))
    parts.append(_provenance(about))
    path = folder / "CARD.md"
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(parts), "utf-8")
    return path


def text_free_ceiling(emrs: Sequence[EMR], gold: Sequence[Coding]) -> float:
    """Micro-F1 of the best guess from sex and age alone: what text must beat.

    Within each sex and age band, every code above one common share is guessed; the share is the
    one with the highest F1 on the same EMRs, so the figure is an upper bound.
    """
    bands: dict[tuple[Any, int], list[set[str]]] = {}
    for emr, coding in zip(emrs, gold, strict=True):
        key = (emr.sex, int((emr.age or 0) // AGE_BAND))
        bands.setdefault(key, []).append(set(coding.codes))
    total = sum(len(coding.codes) for coding in gold)
    best = 0.0
    for share in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
        right = guessed = 0
        for codings in bands.values():
            counts = Counter(code for codes in codings for code in codes)
            likely = [count for count in counts.values() if count >= share * len(codings)]
            right += sum(likely)
            guessed += len(likely) * len(codings)
        if guessed:
            best = max(best, 2 * right / (guessed + total))
    return round(best, 4)


def _head(about: dict[str, Any]) -> str:
    settings = about["settings"]
    return (
        f"# {about['emrs']:,} simulated EMRs, profile {settings['profile']}, "
        f"{settings['codes']} codes\n\n"
        "No patient stands behind any of these records: every sentence is written by a simulator "
        "from hand-made descriptions of diseases. Codes, names and evidence are known exactly.\n"
    )


def _statistics(dataset: Dataset, wording: Wording, about: dict[str, Any]) -> str:
    emrs, gold = dataset.emrs, dataset.gold
    lengths = sorted(_length(emr, wording) for emr in emrs)
    cuts = quantiles(lengths, n=20) if len(lengths) > 1 else lengths * 19
    patients = len({emr.patient_id for emr in emrs})
    named = [emr for emr, share in zip(emrs, dataset.shares, strict=True) if share != "raw"]
    signs, tests = PUBLISHED_SECTIONS[dataset.settings["profile"]]
    lines = [
        ("EMRs", f"{about['emrs']:,}", "", ""),
        ("admissions per patient", f"{len(emrs) / patients:.2f}", "", ""),
        (
            f"{wording.unit} per EMR: mean (5 % to 95 %)",
            f"{mean(lengths):,.0f} ({cuts[0]:,.0f} to {cuts[-1]:,.0f})",
            f"{_length_wanted(dataset):,}",
            "",
        ),
        ("with a specialist condition", _with(emrs, wording.sections["signs"]), signs, ""),
        ("with an auxiliary examination", _with(emrs, wording.sections["tests"]), tests, ""),
        ("gold codes per EMR", _mean(len(c.codes) for c in gold), "", "5.6"),
        ("diagnosis names per EMR", _mean(len(e.diagnoses) for e in named), "", "4.6"),
        ("evidence spans per EMR", _mean(len(c.evidence) for c in gold), "", ""),
        ("text-free ceiling, micro-F1", f"{text_free_ceiling(emrs, gold):.3f}", "", ""),
    ]
    note = (
        f"\nTaken from the first {len(emrs):,} EMRs. " if len(emrs) < about["emrs"] else "\n"
    ) + (
        "The text-free ceiling is what the best guess from sex and age alone scores: whatever a "
        "model reaches above it, it has read.\n"
    )
    return (
        "## Statistics\n\n" + _table(("", "here", "paper, Table 1", "real records"), lines) + note
    )


def _plotted(dataset: Dataset, wording: Wording) -> Plotted:
    return Plotted(
        lengths=[_length(emr, wording) for emr in dataset.emrs],
        unit=wording.unit,
        length_wanted=_length_wanted(dataset),
        codes_per_emr=[len(coding.codes) for coding in dataset.gold],
        code_counts=Counter(code for coding in dataset.gold for code in coding.codes),
        error_rates=dataset.error_rates() or {},
        error_rates_wanted={kind: dataset.settings["noise"][kind] for kind in KINDS},
    )


def _length(emr: EMR, wording: Wording) -> int:
    text = emr.long_text
    return len(text.split()) if wording.unit == "words" else len(text)


def _length_wanted(dataset: Dataset) -> int:
    profile = PROFILES[dataset.settings["profile"]]
    wide = profile.words_wide if dataset.settings["codes"] > WIDE else None
    return wide or profile.words


def _with(emrs: Sequence[EMR], section: str) -> str:
    return f"{sum(section in emr.sections for emr in emrs) / len(emrs):.2f}"


def _mean(values: Iterable[int]) -> str:
    items = list(values)
    return f"{mean(items):.2f}" if items else "-"


def _shares(dataset: Dataset) -> str:
    counts = Counter(zip(dataset.splits, dataset.shares, strict=True))
    shares = sorted(set(dataset.shares))
    lines = [
        (split, *(f"{counts[split, share]:,}" for share in shares))
        for split in ("train", "validation", "test")
    ]
    return "## Splits (by patient) and shares\n\n" + _table(("", *shares), lines)


def _errors(dataset: Dataset) -> str:
    rates = dataset.error_rates()
    if rates is None:
        return ""
    lines = [
        (kind, f"{dataset.settings['noise'][kind]:.3f}", f"{rates[kind]:.3f}") for kind in KINDS
    ]
    return (
        "## Errors in the diagnosis names\n\n"
        + _table(("", "asked for", "here"), lines)
        + "\nShares of the gold codes of EMRs that have diagnosis names.\n"
    )


def _codes(gold: Sequence[Coding]) -> str:
    counts = Counter(code for coding in gold for code in coding.codes)
    frequent = ", ".join(f"{code} ({count:,})" for code, count in counts.most_common(10))
    rare = sum(count < 10 for count in counts.values())
    return (
        f"## Codes\n\n{len(counts)} codes occur, {rare} of them fewer than ten times. "
        f"The most frequent: {frequent}.\n"
    )


def _checks(rows: Sequence[Row]) -> str:
    lines = [
        (
            row.id,
            "" if row.target is None else f"{row.target:g}",
            row.band,
            "" if row.value is None else f"{row.value:g}",
            {True: "yes", False: "**no**", None: "not measured"}[row.met],
        )
        for row in rows
    ]
    head = ("", "real records", "band", "here", "met")
    return "## Beside real records\n\n" + _table(head, lines)


def _provenance(about: dict[str, Any]) -> str:
    settings = json.dumps(about["settings"], indent=1, sort_keys=True)
    hashes = _table(("file", "SHA-256"), sorted(about["sha256"].items()))
    return f"## Where it comes from\n\n```json\n{settings}\n```\n\n{hashes}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
