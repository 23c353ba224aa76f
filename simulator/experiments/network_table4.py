"""Experiment: what coverage batches are worth to each ICD chapter (the paper's table 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.measured import Measured, Progress
from label_config.record import Coding
from sampler import CoverageSampler
from simulator.experiments.cells import hash_of_all
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import Pool, feature_cache, targets
from simulator.experiments.network_places import Place, Trials
from simulator.experiments.network_plot import Groups
from simulator.experiments.network_trial import VALIDATION, Setting, paired_goal, train
from training.evaluate import counts_figures
from training.thresholds import best_threshold

Rows = NDArray[np.int64]
Policy = Literal["random", "coverage"]
POLICIES: tuple[Policy, ...] = ("random", "coverage")
EVERYTHING = "all"
"""The row over all chapters."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many EMRs there are and how many of them coders annotate."""

    pool: int
    unseen: int
    annotated: int
    batch: int
    """EMRs chosen at a time; what they teach of the noisy codes steers the next choice."""
    quota: int
    """Clean EMRs wanted per code."""


QUICK = Size(pool=260, unseen=180, annotated=70, batch=14, quota=8)
FULL = Size(pool=3_000, unseen=1_000, annotated=400, batch=40, quota=35)


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Train on equally many EMRs picked by coverage or at random; the others keep noisy codes.

    A row is a chapter: `clean` its codes' clean EMRs under that policy, F1 over its codes on the
    unseen EMRs, with one threshold for all codes set on a part of them that is not judged. --quick
    takes three seeds: 260 EMRs, of which 70 are annotated, and 180 unseen ones. `data` is not used.
    """
    trials, size = Trials(quick, seeds, progress=progress, kept=kept), QUICK if quick else FULL
    trials.total = len(trials.seeds) * len(POLICIES)
    setting = Setting(trials.config, raw=False)
    rows: list[dict[str, Any]] = []
    for seed in trials.seeds:
        with feature_cache() as cache:
            place = trials.pool(cache, (size.pool, size.unseen), seed=seed)
            for policy in POLICIES:
                make = partial(trial, place, setting, policy, size)
                for row in place.row(policy, (setting, size), make):
                    about = {name: row[name] for name in ("chapter", "title")}
                    rows.append({"policy": policy, **about, "seed": seed} | row)
    rows.sort(key=lambda row: (POLICIES.index(row["policy"]), _position(row["chapter"])))
    dots = Groups(
        rows, by="policy", value="macro_f1", called="macro-F1 on unseen EMRs", place=named
    )
    data_hash = hash_of_all(trials.hashes)
    return Measured(rows, goals(rows), trials.seeds, data_hash, figure=dots.draw)


def named(row: Mapping[str, Any]) -> str:
    """The chapter with the beginning of its title."""
    return shorten(f"{row['chapter']} {row['title']}", 60, placeholder=" …")


def trial(place: Place[Pool], setting: Setting, policy: Policy, size: Size) -> list[dict[str, Any]]:
    """One policy's figures by chapter."""
    drawn = place.data
    ward = drawn.ward(choose(policy, drawn, size, seed=place.seed))
    network = train(ward, setting, place.trials.encoder, place.cache, place.seed)
    clean_K = targets(ward.clean_codings, ward.codes).sum(0)
    return by_chapter(network.read(ward.unseen)[0], drawn, clean_K)


def choose(policy: Policy, drawn: Pool, size: Size, *, seed: int) -> Rows:
    """The rows that coders annotate, exactly `size.annotated` of them.

    Where coverage finds no further EMR worth its time, the rest is drawn at random.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(drawn.emrs))
    if policy == "random":
        return np.sort(order[: size.annotated])
    noisy_NK = confidence_matrix(drawn.noisy, drawn.codes)
    gold_NK = sp.csr_matrix(targets(drawn.gold, drawn.codes), dtype=np.float32)
    sampler = CoverageSampler(noisy_NK, size.quota, category=_categories(drawn), seed=seed)
    chosen: Rows = np.zeros(0, np.int64)
    while chosen.size < size.annotated:
        rows = sampler.query(min(size.batch, size.annotated - chosen.size)).rows
        if not rows.size:
            break
        sampler.update(rows, gold_NK[rows])
        chosen = np.concatenate([chosen, rows])
    left = order[~np.isin(order, chosen)]
    return np.sort(np.concatenate([chosen, left[: size.annotated - chosen.size]]))


def confidence_matrix(codings: Sequence[Coding], codes: Sequence[str]) -> sp.csr_matrix:
    """The confidence of each noisy code, (N, K)."""
    column = {code: k for k, code in enumerate(codes)}
    cells = [
        (row, column[code], certain)
        for row, coding in enumerate(codings)
        for code, certain in zip(coding.codes, coding.confidence, strict=True)
        if code in column and certain > 0
    ]
    shape = (len(codings), len(codes))
    if not cells:
        return sp.csr_matrix(shape, dtype=np.float32)
    rows, columns, values = zip(*cells, strict=True)
    return sp.csr_matrix((values, (rows, columns)), shape=shape, dtype=np.float32)


def by_chapter(
    probs_NK: NDArray[np.floating[Any]], drawn: Pool, clean_K: Rows
) -> list[dict[str, Any]]:
    """F1 per chapter and over all codes, on the unseen EMRs that did not set the threshold.

    A chapter that none of them has is left out: there is nothing to find.
    """
    truth_NK = targets(drawn.unseen_codings, drawn.codes)
    first = round(VALIDATION * len(truth_NK))
    threshold, _ = best_threshold(probs_NK[:first].astype(np.float64), truth_NK[:first])
    ticked_NK, truth_NK = probs_NK[first:] >= threshold, truth_NK[first:]
    chapter_K = np.array([drawn.taxonomy.chapter(code) for code in drawn.codes])
    rows = []
    present = set(chapter_K[truth_NK.any(axis=0)].tolist())
    for chapter in sorted({EVERYTHING, *present}, key=_position):
        own_K = np.full(len(chapter_K), True) if chapter == EVERYTHING else chapter_K == chapter
        figures = counts_figures(ticked_NK[:, own_K], truth_NK[:, own_K])
        rows.append(
            {
                "chapter": chapter,
                "title": "" if chapter == EVERYTHING else drawn.taxonomy.title(chapter),
                "codes": int(own_K.sum()),
                "clean": int(clean_K[own_K].sum()),
                **{name: round(figures[name], 4) for name in ("micro_f1", "macro_f1")},
            }
        )
    return rows


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What coverage adds over all chapters, and to the mean chapter; paired over the seeds."""
    found = []
    for score in ("micro_f1", "macro_f1"):
        changes = _changes(rows, score, whole=True)
        found.append(paired_goal(f"coverage adds {score}", ">= 0", changes))
    changes = _changes(rows, "macro_f1", whole=False)
    return [*found, paired_goal("coverage adds macro_f1, mean chapter", ">= 0", changes)]


def _changes(rows: Sequence[dict[str, Any]], score: str, *, whole: bool) -> list[float]:
    """Per seed, what coverage has more than random: over all codes, or on average per chapter."""
    by_seed: dict[int, list[float]] = {}
    value = {(r["policy"], r["chapter"], r["seed"]): r[score] for r in rows}
    for (policy, chapter, seed), random in value.items():
        if policy == "random" and (chapter == EVERYTHING) == whole:
            by_seed.setdefault(seed, []).append(value["coverage", chapter, seed] - random)
    return [float(np.mean(changes)) for changes in by_seed.values()]


def _position(chapter: str) -> tuple[bool, int, str]:
    """All chapters first, then each by its number."""
    return chapter != EVERYTHING, len(chapter), chapter


def _categories(drawn: Pool) -> Rows:
    names = [drawn.taxonomy.category(code) for code in drawn.codes]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
