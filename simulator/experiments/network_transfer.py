"""Experiment: how far the network carries to other words and to another hospital."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress
from simulator.experiments.network_data import (
    HPH,
    Site,
    Ward,
    feature_cache,
    hash_of_all,
    load_encoder,
    targets,
    ward,
)
from simulator.experiments.network_trial import QUICK_SEEDS, Setting, paired_goal, train
from training.encoder import Encoder
from training.evaluate import evaluate
from training.network import Network
from training.stages import StagesConfig
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
) -> Measured:
    """Train at every place, judge at every place; `change` is against the one trained there.

    A threshold comes from the place of training: elsewhere nobody has annotated anything. --quick
    takes three seeds and 70 noisy, 50 clean and 80 unseen EMRs per place. `data` is not used.
    """
    seeds = tuple(seeds)[:QUICK_SEEDS] if quick else tuple(seeds)
    encoder = load_encoder()
    config = StagesConfig.quick() if quick else StagesConfig.best()
    rows: list[dict[str, Any]] = []
    hashes = []
    total = len(seeds) * len(PLACES)
    for number, seed in enumerate(seeds):
        wards = {
            name: ward(QUICK_SIZES if quick else FULL_SIZES, encoder, seed=seed, site=site)
            for name, site in PLACES.items()
        }
        hashes += [one.hash() for one in wards.values()]
        with feature_cache() as cache:
            mine = []
            for turn, (name, own) in enumerate(wards.items(), 1):
                trained = settled(own, config, encoder, cache, seed)
                mine += [
                    {"trained": name, "judged": place, "seed": seed, **judged(trained, there)}
                    for place, there in wards.items()
                ]
                if progress is not None:
                    progress(number * len(PLACES) + turn, total)
        rows += with_changes(mine)
    return Measured(rows, goals(rows), seeds, hash_of_all(hashes))


def settled(own: Ward, config: StagesConfig, encoder: Encoder, cache: Path, seed: int) -> Trained:
    """Train at a place and set the threshold there."""
    network = train(own, Setting(config, raw=bool(own.raw)), encoder, cache, seed)
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
