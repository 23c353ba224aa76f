"""Experiment: how far the network carries to other words and to another hospital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress
from simulator.experiments.cells import hash_of_all
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import HPH, Site, Ward, feature_cache, targets
from simulator.experiments.network_places import Place, Trials
from simulator.experiments.network_plot import Groups
from simulator.experiments.network_trial import Setting, paired_goal, train
from training.evaluate import evaluate
from training.network import Network
from training.thresholds import best_threshold

PLACES = {
    "hph, bank A": HPH,
    "hph, bank B": Site(bank="B"),
    "aph, bank A": Site("aph"),
}
"""The same diseases in other words, and the same words in longer records of other patients."""
HOME = "hph, bank A"
QUICK_SIZES, FULL_SIZES = (0, 70, 50, 80), (1_500, 2_500, 400, 900)
"""Raw, noisy, clean and unseen EMRs of each place; of the unseen, VALIDATION set the threshold."""
VALIDATION = 0.4


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with the threshold that its own hospital's validation EMRs gave it."""

    network: Network
    threshold: float


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Train at every place, judge at every place; `change` is against the one trained there.

    A threshold comes from the place of training: elsewhere nobody has annotated anything. --quick
    takes three seeds and 70 noisy, 50 clean and 80 unseen EMRs per place. `data` is not used.
    """
    trials = Trials(quick, seeds, progress=progress, kept=kept)
    sizes = QUICK_SIZES if quick else FULL_SIZES
    trials.total = len(trials.seeds) * len(PLACES)
    rows: list[dict[str, Any]] = []
    for seed in trials.seeds:
        with feature_cache() as cache:
            places = {
                name: trials.ward(cache, sizes, seed=seed, site=site)
                for name, site in PLACES.items()
            }
            mine = []
            for name, own in places.items():
                config = (trials.config, *(place.about for place in places.values()))
                found = own.row(f"trained at {name}", config, partial(trial, own, places))
                mine += [
                    {"trained": name, "judged": at, "seed": seed, **found[at]} for at in places
                ]
        rows += with_changes(mine)
    dots = Groups(
        rows,
        by="trained",
        value="micro_f1",
        called="micro-F1 on unseen EMRs",
        place=lambda row: f"judged at {row['judged']}",
    )
    data_hash = hash_of_all(trials.hashes)
    return Measured(rows, goals(rows), trials.seeds, data_hash, figure=dots.draw)


def trial(own: Place[Ward], places: Mapping[str, Place[Ward]]) -> dict[str, dict[str, float]]:
    """Train at one place, judge at every place."""
    trained = settled(own)
    return {name: judged(trained, place.data) for name, place in places.items()}


def settled(place: Place[Ward]) -> Trained:
    """Train at a place and set the threshold there."""
    own, trials = place.data, place.trials
    setting = Setting(trials.config, raw=bool(own.raw))
    network = train(own, setting, trials.encoder, place.cache, place.seed)
    first = round(VALIDATION * len(own.unseen))
    probs_NK = network.read(own.unseen[:first])[0].astype(np.float64)
    return Trained(network, best_threshold(probs_NK, own.truth()[:first])[0])


def judged(trained: Trained, there: Ward) -> dict[str, float]:
    """Figures on a place's unseen EMRs, without those that set thresholds."""
    first = round(VALIDATION * len(there.unseen))
    probs_NK = trained.network.read(there.unseen[first:])[0]
    truth_NK = targets(there.unseen_codings[first:], trained.network.codes)
    figures = evaluate(probs_NK, truth_NK, threshold=trained.threshold)
    return {name: round(figures[name], 4) for name in ("micro_f1", "macro_f1", "map")}


def with_changes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one seed, each with its micro-F1 less that of the network trained where it judges."""
    native = {row["judged"]: row["micro_f1"] for row in rows if row["trained"] == row["judged"]}
    return [row | {"change": round(row["micro_f1"] - native[row["judged"]], 4)} for row in rows]


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the network from home loses elsewhere; a tenth of micro-F1 would be little."""
    away = [name for name in PLACES if name != HOME]
    return [
        paired_goal(
            f"{HOME} at {place}",
            ">= -0.1",
            [r["change"] for r in rows if (r["trained"], r["judged"]) == (HOME, place)],
        )
        for place in away
    ]
