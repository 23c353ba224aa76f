"""Trains extractors in several settings on the same simulated EMRs, and compares them in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from label_config.measured import Measured, Progress, goal
from simulator.experiments.cells import hash_of_all
from simulator.experiments.chosen import EVERYTHING, Chosen
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import HPH, Site, Ward, feature_cache, targets
from simulator.experiments.network_distil import taught_by_sparse
from simulator.experiments.network_places import Place, Trials
from simulator.experiments.network_plot import Changes
from simulator.experiments.network_rivals import rival_probs
from training.encoder import Encoder
from training.evaluate import evaluate
from training.features import FeatureStore
from training.network import Network, mixed
from training.rival_models import RivalName
from training.stages import StagesConfig, train_network
from training.thresholds import best_threshold

Floats = NDArray[np.floating[Any]]
QUICK_SIZES = (200, 400, 100, 200)
FULL_SIZES = (1_500, 2_500, 400, 900)
"""Raw, noisy, clean and unseen EMRs; of the unseen, VALIDATION set the thresholds."""
VALIDATION = 0.3


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of a table."""

    config: StagesConfig
    raw: bool = True
    """Whether stage 1 is run."""
    noisy: bool = True
    """Whether stage 2 is run."""
    adds: bool = False
    """Whether it has something more than the first contestant, and so should be better."""


Contestant = Setting | RivalName


def compare(
    contestants: Mapping[str, Contestant],
    *,
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    sites: Sequence[Site] = (HPH,),
    kept: Kept = NOTHING,
    chosen: Chosen = EVERYTHING,
) -> Measured:
    """Train every contestant on every site for every seed, each seed a hospital of its own.

    A row's `change` is its micro-F1 less that of the first contestant on the same EMRs. The goals
    tell whether the mean change over the seeds has the sign that it should have.
    """
    sites = list(chosen.of_places({str(site): site for site in sites}).values())
    contestants = chosen.of_rows(contestants)
    trials = Trials(quick, seeds, progress=progress, kept=kept)
    trials.total = len(trials.seeds) * len(sites) * len(contestants)
    rows: list[dict[str, Any]] = []
    for site, seed in product(sites, trials.seeds):
        with feature_cache() as cache:
            place = trials.ward(cache, QUICK_SIZES if quick else FULL_SIZES, seed=seed, site=site)
            first = None
            for name, contestant in contestants.items():
                figures = place.row(name, contestant, partial(trial, place, contestant))
                first = figures["micro_f1"] if first is None else first
                change = round(figures["micro_f1"] - first, 4)
                about = {"hospital": str(site), "setting": name, "seed": seed}
                rows.append({**about, **figures, "change": change})
    goals = [
        change_goal([row for row in rows if row["hospital"] == str(site)], name, other, where)
        for site, where in zip(sites, _places(sites), strict=True)
        for name, other in list(contestants.items())[1:]
    ]
    figure = Changes(rows, against=next(iter(contestants))).draw
    return Measured(rows, goals, trials.seeds, hash_of_all(trials.hashes), figure=figure)


def trial(place: Place[Ward], contestant: Contestant) -> dict[str, float]:
    """One contestant's figures on the unseen EMRs."""
    data, trials, cache = place.data, place.trials, place.cache
    if isinstance(contestant, Setting):
        return judge(train(data, contestant, trials.encoder, cache, place.seed), data)
    probs_NK = rival_probs(
        contestant, data, trials.encoder, cache, seed=place.seed, quick=trials.quick
    )
    return scores(probs_NK, data.truth(), round(VALIDATION * len(data.unseen)))


def train(data: Ward, setting: Setting, encoder: Encoder, cache: Path, seed: int) -> Network:
    """Run the stages that the setting has; the network reads from the same feature cache."""
    config = replace(setting.config, seed=seed)
    taught = taught_by_sparse(data, seed=seed) if config.noisy.taught else None
    network = train_network(
        data.raw if setting.raw else [],
        data.noisy if setting.noisy else [],
        data.noisy_codings if setting.noisy else [],
        data.clean,
        data.clean_codings,
        codes=data.codes,
        taxonomy=data.taxonomy,
        encoder=encoder,
        config=config,
        cache=cache,
        taught=taught,
    )
    network.store = FeatureStore(encoder, cache)
    return network


def judge(network: Network, data: Ward) -> dict[str, float]:
    """Figures on the unseen EMRs: alone, with votes at a fixed and at an adaptive lambda."""
    first = round(VALIDATION * len(data.unseen))
    truth = targets(data.unseen_codings, data.codes)
    probs_NK, z_NH = network.read(data.unseen)
    votes_NK, near_N = network.datastore.votes(z_NH, network.knn.k, network.knn.tau)
    figures = scores(probs_NK, truth, first)
    for name, adaptive in (("knn", False), ("adaptive", True)):
        knn = replace(network.knn, adaptive=adaptive)
        voted = scores(mixed(probs_NK, votes_NK, knn, near_N=near_N), truth, first)
        figures |= {f"micro_f1_{name}": voted["micro_f1"], f"map_{name}": voted["map"]}
    return figures


def scores(probs_NK: Floats, truth_NK: NDArray[np.bool_], first: int) -> dict[str, float]:
    """Micro-F1, macro-F1 and ranking precision from row `first` on; the rows before it set the
    threshold.
    """
    clipped_NK = np.clip(probs_NK, 0.0, 1.0).astype(np.float64)
    threshold, _ = best_threshold(clipped_NK[:first], truth_NK[:first])
    figures = evaluate(clipped_NK[first:], truth_NK[first:], threshold=threshold)
    return {name: round(figures[name], 4) for name in ("micro_f1", "macro_f1", "map")}


def change_goal(
    rows: Sequence[Mapping[str, Any]], name: str, contestant: Contestant, where: str
) -> dict[str, Any]:
    """Whether a contestant is worse than the first one, or better if it `adds` something."""
    changes = [row["change"] for row in rows if row["setting"] == name]
    adds = isinstance(contestant, Setting) and contestant.adds
    return paired_goal(f"change {name}{where}", ">= 0" if adds else "<= 0", changes)


def paired_goal(name: str, target: str, changes: Sequence[float]) -> dict[str, Any]:
    """Judge the mean of paired changes, with its 95 % interval over the seeds (Student's t)."""
    mean = float(np.mean(changes))
    verdict = goal(name, target, mean)
    if len(changes) > 1:
        half = float(stats.t.ppf(0.975, len(changes) - 1) * stats.sem(changes))
        verdict["interval"] = f"{mean - half:+.3f} to {mean + half:+.3f}"
    return verdict


def change_said(changes: Sequence[float]) -> tuple[str, bool]:
    """The mean of paired changes with its 95 % interval, and whether it can be told from none."""
    verdict = paired_goal("", "<= 0", changes)
    mean, interval = verdict["value"], verdict.get("interval")
    if interval is None:
        return f"{mean:+.3f} on one seed", False
    low, high = map(float, interval.split(" to "))
    return f"{mean:+.3f} (95 % interval {interval})", low > 0 or high < 0


def _places(sites: Sequence[Site]) -> list[str]:
    return [f" ({site})" if len(sites) > 1 else "" for site in sites]
