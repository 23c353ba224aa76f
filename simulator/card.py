"""Data card: what a dataset holds, beside what the published hospitals report.

Written as Markdown; with matplotlib installed, plots stand beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from label_config.files import atomic_path
from label_config.record import EMR, Coding
from simulator.check import Row
from simulator.hospital import PROFILES
from simulator.reader import Dataset, read_dataset

AT_MOST = 20_000
"""EMRs that the card's statistics are taken from."""
AGE_BAND = 10
"""Years per band of the text-free ceiling."""


def write_card(folder: Path, rows: Sequence[Row] = ()) -> Path:
    """Write `CARD.md` (and `card.png` with matplotlib) for a dataset folder; return its path.

    `rows` are those of `check_dataset`, shown as a table.
    """
    dataset = read_dataset(folder, at_most=AT_MOST)
    about = json.loads((folder / "dataset.json").read_text("utf-8"))
    parts = [_head(about), _statistics(dataset), _shares(dataset), _codes(dataset.gold)]
    if rows:
        parts.append(_checks(rows))
    if _plot(dataset, folder / "card.png"):
        parts.append("![Lengths, codes per EMR and code frequencies](card.png)\n")
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


def _statistics(dataset: Dataset) -> str:
    profile = PROFILES[dataset.settings["profile"]]
    words = [len(emr.long_text.split()) for emr in dataset.emrs]
    codes = [len(coding.codes) for coding in dataset.gold]
    names = [len(emr.diagnoses) for emr in dataset.emrs]
    spans = [len(coding.evidence) for coding in dataset.gold]
    patients = len({emr.patient_id for emr in dataset.emrs})
    ceiling = text_free_ceiling(dataset.emrs, dataset.gold)
    lines = [
        ("EMRs read for this card", f"{len(dataset.emrs):,}", ""),
        ("patients", f"{patients:,}", ""),
        (
            "words per EMR, mean (median)",
            f"{mean(words):.0f} ({median(words):.0f})",
            f"{profile.words}",
        ),
        ("gold codes per EMR", f"{mean(codes):.2f}", f"{profile.mean_codes:g}"),
        ("diagnosis names per EMR", f"{mean(names):.2f}", ""),
        ("evidence spans per EMR", f"{mean(spans):.1f}", ""),
        ("micro-F1 without reading the text (sex and age only)", f"{ceiling:.3f}", ""),
    ]
    return "## Statistics\n\n" + _table(("", "here", "published"), lines)


def _shares(dataset: Dataset) -> str:
    counts = Counter(zip(dataset.splits, dataset.shares, strict=True))
    shares = sorted(set(dataset.shares))
    lines = [
        (split, *(f"{counts[split, share]:,}" for share in shares))
        for split in ("train", "validation", "test")
    ]
    return "## Splits (by patient) and shares\n\n" + _table(("", *shares), lines)


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
            f"{row.low:g} to {row.high:g}",
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


def _plot(dataset: Dataset, path: Path) -> bool:
    """Draw lengths, codes per EMR and code frequencies; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    lengths, per_emr, ranks = figure.subplots(1, 3)
    lengths.hist([len(emr.long_text.split()) for emr in dataset.emrs], bins=40)
    lengths.set(xlabel="words per EMR", ylabel="EMRs")
    sizes = Counter(len(coding.codes) for coding in dataset.gold)
    per_emr.bar(list(sizes), list(sizes.values()))
    per_emr.set(xlabel="gold codes per EMR")
    counts = Counter(code for coding in dataset.gold for code in coding.codes)
    ranks.loglog(range(1, len(counts) + 1), sorted(counts.values(), reverse=True), ".")
    ranks.set(xlabel="rank of the code", ylabel="EMRs with it")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return True
