"""Names to map, from public tables and from the simulated hospital, each with its right codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from label_config.errors import ConfigError, DataError
from label_config.taxonomy import Taxonomy
from simulator.hospital import Hospital
from simulator.knowledge import load_pack
from training.fold import fold_name

NCBI, INDEX, SIMULATED, SPANISH = "NCBI", "index phrases", "simulated", "CodiEsp ES"
NCBI_CODES = 716
"""Codes of the NCBI names, filled up with other codes of the Disease Ontology."""
INDEX_CODES, INDEX_PHRASES = 600, 900
"""The codes with most phrases in the alphabetic index, and phrases drawn from theirs."""
HOSPITAL_CODES, HOSPITAL_EMRS = 100, 400
SPANISH_SHARE = 0.7
"""Of the Spanish mentions, those that are known as names; the others are mapped."""


@dataclass(frozen=True, slots=True)
class Task:
    """Names, the codes that each may have, and the candidates."""

    title: str
    names: Sequence[str]
    right: Sequence[Collection[str]]
    codes: Sequence[str]
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    times: Sequence[int] = ()
    """How often each name is asked for; once each if empty."""

    def asked(self, rows: Sequence[int]) -> tuple[list[str], list[Collection[str]]]:
        """The names in `rows` as often as they are asked for, and their right codes."""
        times = self.times or [1] * len(self.names)
        again = [i for i in rows for _ in range(times[i])]
        return [self.names[i] for i in again], [self.right[i] for i in again]


def ncbi_task(files: Mapping[str, Any], taxonomy: Taxonomy, seed: int) -> Task:
    """Disease names from abstracts of biomedical papers."""
    right: dict[str, set[str]] = {}
    written: dict[str, str] = {}
    for _, name, codes in files["ncbi"]:
        key = fold_name(name)
        written.setdefault(key, name)
        right.setdefault(key, set()).update(codes.split("|"))
    gold = {code for codes in right.values() for code in codes}
    others = sorted(set(files["doid"]) - gold)
    count = min(max(0, NCBI_CODES - len(gold)), len(others))
    drawn = np.random.default_rng(0).choice(others, count, replace=False).tolist()
    return Task(NCBI, list(written.values()), list(right.values()), sorted({*gold, *drawn}))


def index_task(files: Mapping[str, Any], taxonomy: Taxonomy, seed: int) -> Task:
    """Phrases of the alphabetic index; the candidates have their titles and inclusion terms."""
    phrases = files["index"]
    codes = sorted(sorted(phrases, key=lambda c: (-len(phrases[c]), c))[:INDEX_CODES])
    pairs = sorted({(fold_name(phrase), code) for code in codes for phrase in phrases[code]})
    rng = np.random.default_rng(seed)
    drawn = sorted(rng.choice(len(pairs), min(INDEX_PHRASES, len(pairs)), replace=False))
    return Task(INDEX, [pairs[i][0] for i in drawn], [{pairs[i][1]} for i in drawn], codes)


def simulated_task(files: Mapping[str, Any], taxonomy: Taxonomy, seed: int) -> Task:
    """The names in the diagnosis lists of the stand-in hospital, each as often as it stands there;
    a name that stands for two codes of the set is right with either.
    """
    hospital = Hospital(load_pack("en"), codes=HOSPITAL_CODES, seed=seed)
    right: dict[str, set[str]] = {}
    times: Counter[str] = Counter()
    for simulated in hospital.emrs(HOSPITAL_EMRS):
        for diagnosis, code in zip(simulated.emr.diagnoses, simulated.gold.codes, strict=True):
            right.setdefault(diagnosis.name, set()).add(code)
            times[diagnosis.name] += 1
    return Task(
        SIMULATED,
        list(right),
        list(right.values()),
        sorted(hospital.codes),
        times=[times[name] for name in right],
    )


def spanish_task(files: Mapping[str, Any], taxonomy: Taxonomy, seed: int) -> Task:
    """What Spanish coders marked; most mentions serve as names of their codes, as in a project
    that has been coded for a while.
    """
    right: dict[str, set[str]] = {}
    for _, name, code in files["spanish"]:
        right.setdefault(fold_name(name), set()).add(code)
    names = sorted(right)
    order = np.random.default_rng(seed).permutation(len(names))
    cut = int(SPANISH_SHARE * len(names))
    known: dict[str, list[str]] = {}
    for i in order[:cut]:
        for code in sorted(right[names[i]]):
            known.setdefault(code, []).append(names[i])
    asked = [names[i] for i in order[cut:]]
    return Task(SPANISH, asked, [right[name] for name in asked], sorted(known), known)


TASKS = {NCBI: ncbi_task, INDEX: index_task, SIMULATED: simulated_task, SPANISH: spanish_task}


def read_files(folder: Path) -> dict[str, Any]:
    """The three tables. Raises ConfigError for a path that is no folder, DataError for a table
    that is missing or broken.
    """
    if not folder.is_dir():
        raise ConfigError(f"the names experiment needed a folder of tables, got {folder}")
    informal = _table(folder / "informal_names_icd10cm_en.tsv")
    index: dict[str, list[str]] = {}
    for code, kind, name in informal:
        if kind == "index":
            index.setdefault(code, []).append(name)
    return {
        "ncbi": _table(folder / "norm_ncbi_disease_en.tsv"),
        "spanish": _table(folder / "norm_codiesp_es.tsv"),
        "index": index,
        "doid": sorted({code for code, kind, _ in informal if kind == "doid"}),
    }


def _table(path: Path) -> list[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8") as lines:  # a name may hold other ends of lines
            rows = [tuple(line.rstrip("\n").split("\t")) for line in lines if line != "\n"]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if any(len(row) != 3 for row in rows):
        raise DataError(f"{path} must have three columns, parted by tabs")
    return rows
