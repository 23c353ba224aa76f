"""Trains the network in several settings on the same simulated EMRs, and compares them in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from label_config.measured import Measured, Progress, goal
from simulator.experiments.network_data import Ward, targets, ward
from training.encoder import Encoder
from training.evaluate import evaluate
from training.network import Network, mixed
from training.stages import StagesConfig, train_network
from training.thresholds import best_threshold

Floats = NDArray[np.floating[Any]]
QUICK_SIZES = (300, 450, 120, 250)
FULL_SIZES = (1_500, 2_500, 400, 900)
"""Raw, noisy, clean and unseen EMRs; of the unseen, VALIDATION set the thresholds."""
VALIDATION = 0.3
QUICK_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of a table."""

    config: StagesConfig
    raw: bool = True
    """Whether stage 1 is run."""
    noisy: bool = True
    """Whether stage 2 is run."""


def compare(
    settings: Mapping[str, Setting],
    *,
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    codes: int = 50,
) -> Measured:
    """Train every setting for every seed, each seed a hospital of its own.

    A row's `change` is its micro-F1 less that of the first setting on the same EMRs. The goals tell
    whether the mean change over the seeds is below 0.
    """
    seeds = tuple(seeds)[:QUICK_SEEDS] if quick else tuple(seeds)
    encoder = Encoder.load()
    rows: list[dict[str, Any]] = []
    hashes = []
    for seed in seeds:
        data = ward(QUICK_SIZES if quick else FULL_SIZES, encoder, seed=seed, codes=codes)
        hashes.append(data.hash())
        whole = 0.0
        with TemporaryDirectory(prefix="clinicoco-") as cache:
            for name, setting in settings.items():
                network = train(data, setting, encoder, Path(cache), seed)
                figures = judge(network, data)
                whole = whole or figures["micro_f1"]
                change = round(figures["micro_f1"] - whole, 4)
                rows.append({"setting": name, "seed": seed, **figures, "change": change})
                if progress is not None:
                    progress(len(rows), len(seeds) * len(settings))
    goals = [change_goal(rows, name) for name in list(settings)[1:]]
    return Measured(rows, goals, seeds, "-".join(hashes)[:16])


def train(data: Ward, setting: Setting, encoder: Encoder, cache: Path, seed: int) -> Network:
    """Run the stages that the setting has."""
    return train_network(
        data.raw if setting.raw else [],
        data.noisy if setting.noisy else [],
        data.noisy_codings if setting.noisy else [],
        data.clean,
        data.clean_codings,
        codes=data.codes,
        taxonomy=data.taxonomy,
        encoder=encoder,
        config=replace(setting.config, seed=seed),
        cache=cache,
    )


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


def change_goal(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Whether a setting is worse than the first one, with the 95 % interval of the change."""
    changes = np.array([row["change"] for row in rows if row["setting"] == name])
    verdict = goal(f"change {name}", "<= 0", float(changes.mean()))
    if len(changes) > 1:
        half = float(stats.t.ppf(0.975, len(changes) - 1) * stats.sem(changes))
        low, high = changes.mean() - half, changes.mean() + half
        verdict["interval"] = f"{low:+.3f} to {high:+.3f}"
    return verdict
