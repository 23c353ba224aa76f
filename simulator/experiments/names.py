"""Experiment: how often a diagnosis name finds its code, and how far its confidence holds."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from label_config.measured import Measured, Progress, goal
from label_config.taxonomy import Taxonomy
from simulator.experiments.cells import Cell, finished, first_seeds, hash_of
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.names_tasks import (
    INDEX,
    NCBI,
    SIMULATED,
    SPANISH,
    TASKS,
    Task,
    read_files,
)
from training.encoder import Encoder
from training.evaluate import calibration_error, calibration_floor
from training.fold import fold_name
from training.name_features import Characters, best_per_code
from training.names import names_by_code
from training.simcse import SimCSEConfig
from training.similarity import NameMapper, NameMatch, SimilarityConfig

Bools = npt.NDArray[np.bool_]
SHOWN = ("names", "codes", "method", "acc1", "acc5", "ece", "ece_floor", "no_code")
OUTSIDE = 0.2
"""Share of codes taken out of the candidates, so that their names fit nothing."""
CHARACTERS, ENCODER, SHIPPED, CONFIRMED = "characters", "encoder", "ours", "ours, half confirmed"
NO_SIMCSE, INDEXED = "ours, no SimCSE", "ours, half confirmed, with index"
KNOWN = "ours, half known as names"


class RememberingEncoder:
    """Encodes each text once in the whole experiment, and fits each mapper once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows: dict[str, npt.NDArray[np.float32]] = {}
        self.fitted: dict[str, NameMapper] = {}

    @property
    def fingerprint(self) -> str:
        """That of the encoder itself."""
        return self._encoder.fingerprint

    @property
    def checksum(self) -> str:
        """That of the encoder itself."""
        return self._encoder.checksum

    def embed(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        """Return float32 of shape (N, D)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        self._rows.update(zip(new, self._encoder.embed(new), strict=True))
        rows = [self._rows[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self._encoder.dim), np.float32)


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Map names by several methods; what is tuned is tuned on one half and told of the other.

    Args:
        quick: One seed and only the NCBI and the simulated names.
        seeds: One split per seed.
        progress: Called after each task of each seed.
        data: Folder with norm_ncbi_disease_en.tsv, informal_names_icd10cm_en.tsv and
            norm_codiesp_es.tsv; without it only the simulated names are mapped.
        kept: Where finished rows are, per task and seed.
    """
    seeds = first_seeds(seeds, quick=quick, most=1)
    taxonomy, encoder = Taxonomy.icd10cm(), RememberingEncoder(Encoder.load())
    kinds = [SIMULATED] if data is None else [NCBI, SIMULATED]
    kinds += [] if data is None or quick else [INDEX, SPANISH]
    files = {} if data is None else read_files(data)
    about = hash_of(encoder.fingerprint, sorted(files.items()))
    cells = [
        Cell(
            {"names": kind, "seed": seed, "hash": about},
            partial(_cell, kind, files, taxonomy, encoder, seed, quick=quick),
        )
        for kind in kinds
        for seed in seeds
    ]
    rows, digest = finished(cells, len(cells), kept=kept, progress=progress)
    return Measured(rows, goals(rows), seeds, digest, shown=SHOWN, findings=findings(rows))


def _cell(
    kind: str,
    files: Mapping[str, Any],
    taxonomy: Taxonomy,
    encoder: RememberingEncoder,
    seed: int,
    *,
    quick: bool,
) -> tuple[str, list[dict[str, Any]]]:
    """The hash of one seed's task of a kind, and all rows on it."""
    task = TASKS[kind](files, taxonomy, seed)
    about = {"names": kind, "seed": seed, "codes": len(task.codes)}
    measured = judge(task, taxonomy, encoder, seed, lean=quick or kind == SPANISH)
    if kind == NCBI:
        index = {c: files["index"][c] for c in task.codes if c in files["index"]}
        if not quick:
            measured.append(indexed(replace(task, synonyms=index), taxonomy, encoder, seed))
        measured.append(abstaining(task, taxonomy, encoder, seed))
    return hash_of(*task.names, *task.codes), [about | row for row in measured]


# -- the methods ------------------------------------------------------------------------------


def judge(
    task: Task, taxonomy: Taxonomy, encoder: RememberingEncoder, seed: int, *, lean: bool
) -> list[dict[str, Any]]:
    """Rows of all methods on the half of the names that nothing was tuned on."""
    tuned, told = halves(len(task.names), seed)
    asked, right = task.asked(told)
    rows = baseline_rows(task, asked, right, taxonomy, encoder)
    mapper = fit(task, taxonomy, encoder)
    rows.append({"method": SHIPPED, **figures(mapper.map(asked), right)})
    confirmed = refined(mapper, task, tuned)
    rows.append({"method": CONFIRMED, **figures(confirmed.map(asked), right)})
    if not lean:
        plain = SimilarityConfig(simcse=SimCSEConfig(epochs=0))
        without = fit(task, taxonomy, encoder, plain)
        rows.append({"method": NO_SIMCSE, **figures(without.map(asked), right)})
        own: dict[str, list[str]] = {}
        for i in tuned:
            for code in sorted(task.right[i]):
                own.setdefault(code, []).append(task.names[i])
        knowing = fit(replace(task, synonyms=own), taxonomy, encoder)
        rows.append({"method": KNOWN, **figures(knowing.map(asked), right)})
    return rows


def indexed(
    task: Task, taxonomy: Taxonomy, encoder: RememberingEncoder, seed: int
) -> dict[str, Any]:
    """The alphabetic index as a table of synonyms."""
    tuned, told = halves(len(task.names), seed)
    mapper = refined(fit(task, taxonomy, encoder), task, tuned)
    asked, right = task.asked(told)
    return {"method": INDEXED, **figures(mapper.map(asked), right)}


def abstaining(
    task: Task, taxonomy: Taxonomy, encoder: RememberingEncoder, seed: int
) -> dict[str, Any]:
    """Accuracy where a share of the codes is no candidate: their names must get no code."""
    rng = np.random.default_rng(seed)
    codes = [code for code in task.codes if rng.random() >= OUTSIDE]
    left = replace(task, codes=codes, right=[set(codes) & set(right) for right in task.right])
    tuned, told = halves(len(task.names), seed)
    mapper = refined(fit(left, taxonomy, encoder), left, tuned)
    asked, right = left.asked(told)
    matches = mapper.map(asked)
    outside = [match.code is None for match, codes in zip(matches, right, strict=True) if not codes]
    inside = [match.code is None for match, codes in zip(matches, right, strict=True) if codes]
    row = {"method": f"{CONFIRMED}, {OUTSIDE:.0%} outside", **figures(matches, right)}
    return row | {"no_code": mean(outside), "wrongly_no_code": mean(inside)}


def fit(
    task: Task,
    taxonomy: Taxonomy,
    encoder: RememberingEncoder,
    config: SimilarityConfig | None = None,
) -> NameMapper:
    """A mapper that has seen the names, and none of their codes; never the same object twice."""
    known = [f"{code} {name}" for code, names in task.synonyms.items() for name in names]
    lines = "\n".join([repr(config), *task.names, *task.codes, *known])
    key = hashlib.sha256(lines.encode()).hexdigest()
    if key not in encoder.fitted:
        encoder.fitted[key] = NameMapper.fit(
            task.names, taxonomy, task.codes, encoder, config=config, synonyms=task.synonyms
        )
    return copy.copy(encoder.fitted[key])


def refined(mapper: NameMapper, task: Task, rows: Sequence[int]) -> NameMapper:
    """A copy that knows the codes of the names in `rows`."""
    other = copy.copy(mapper)
    other.refine([task.names[i] for i in rows], [task.right[i] for i in rows])
    return other


def baseline_rows(
    task: Task,
    asked: Sequence[str],
    right: Sequence[Collection[str]],
    taxonomy: Taxonomy,
    encoder: RememberingEncoder,
) -> list[dict[str, Any]]:
    """The nearest official name by character TF-IDF, and by the encoder as it comes."""
    table = names_by_code(taxonomy, task.codes, task.synonyms)
    pairs = [(fold_name(n), k) for k, code in enumerate(task.codes) for n in table[code]]
    keys, owners = [key for key, _ in pairs], np.array([k for _, k in pairs])
    queries = [fold_name(name) for name in asked]
    found = {
        CHARACTERS: Characters(keys).similarity(queries),
        ENCODER: encoder.embed(queries) @ encoder.embed(keys).T,
    }
    rows = []
    for method, similarity_NM in found.items():
        best_NK = best_per_code(similarity_NM, owners, len(task.codes))
        order = np.argsort(-best_NK, axis=1, kind="stable")[:, :5]
        ranked = [[task.codes[k] for k in line] for line in order]
        rows.append({"method": method, **accuracy(ranked, right)})
    return rows


# -- the figures ------------------------------------------------------------------------------


def halves(n: int, seed: int) -> tuple[list[int], list[int]]:
    """Two random halves of n rows."""
    order = np.random.default_rng(seed).permutation(n)
    return sorted(order[: n // 2].tolist()), sorted(order[n // 2 :].tolist())


def figures(matches: Sequence[NameMatch], right: Sequence[Collection[str]]) -> dict[str, float]:
    """Accuracy, and the calibration error of the best code beside what chance alone makes of it."""
    best = [match.candidates[0] for match in matches]
    hit = np.array([[code in codes] for (code, _), codes in zip(best, right, strict=True)])
    sure = np.array([[confidence] for _, confidence in best])
    ranked = [[code for code, _ in match.candidates] for match in matches]
    errors = {"ece": calibration_error(sure, hit), "ece_floor": calibration_floor(sure)}
    return accuracy(ranked, right) | {name: round(error, 4) for name, error in errors.items()}


def accuracy(ranked: Sequence[Sequence[str]], right: Sequence[Collection[str]]) -> dict[str, float]:
    """Share of the names that have a code whose first, or first five, hold a right one."""
    rows = [(r, c) for r, c in zip(ranked, right, strict=True) if c]
    return {
        "acc1": mean([r[0] in c for r, c in rows]),
        "acc5": mean([bool(set(r[:5]) & set(c)) for r, c in rows]),
    }


def mean(values: Sequence[bool]) -> float:
    """The share that is true; nan of nothing."""
    return round(float(np.mean(values)), 4) if values else float("nan")


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians over splits; a goal whose names were not mapped has value nan."""

    def median(names: str, method: str, column: str) -> float:
        values = [r[column] for r in rows if r["names"] == names and r["method"] == method]
        return float(np.median(values)) if values else float("nan")

    wanted = [
        goal("ncbi_acc1", ">= 0.72", median(NCBI, CONFIRMED, "acc1")),
        goal("ncbi_ece", "<= 0.05", median(NCBI, CONFIRMED, "ece")),
        goal("index_acc1", ">= 0.6", median(INDEX, CONFIRMED, "acc1")),
        goal("index_ece", "<= 0.05", median(INDEX, CONFIRMED, "ece")),
        goal("simulated_acc1", ">= 0.9", median(SIMULATED, SHIPPED, "acc1")),
    ]
    mapped = {row["names"] for row in rows}
    of = {"ncbi": NCBI, "index": INDEX, "simulated": SIMULATED}
    return [g for g in wanted if of[g["id"].split("_")[0]] in mapped]


def findings(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What SimCSE gives on each kind of names: accuracy with it less that without, per split.

    Where its learned strength is 0, the mapper is the same without it, and so are all figures.
    """
    said = []
    for names in dict.fromkeys(row["names"] for row in rows):
        with_it, without = (
            {row["seed"]: row["acc1"] for row in rows if (row["names"], row["method"]) == kind}
            for kind in ((names, SHIPPED), (names, NO_SIMCSE))
        )
        gains = [with_it[seed] - without[seed] for seed in without]
        if gains:
            better, worse = (sum(sign * gain > 0 for gain in gains) for sign in (1, -1))
            said.append(
                f"SimCSE, {names}: {np.median(gains):+.3f} of acc1 "
                f"({min(gains):+.3f} to {max(gains):+.3f}), "
                f"better in {better} and worse in {worse} of {len(gains)} splits."
            )
    return tuple(said)
