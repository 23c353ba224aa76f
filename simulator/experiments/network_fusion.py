"""Experiment: what the network, and each of its options, adds to the fusion of all others."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from label_config.measured import Measured, Progress
from simulator.experiments.cells import hash_of_all
from simulator.experiments.chosen import EVERYTHING, Chosen
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import feature_cache, targets
from simulator.experiments.network_fusion_data import Corpus, Gives, corpora
from simulator.experiments.network_places import Place, Trials
from simulator.experiments.network_plot import Changes
from simulator.experiments.network_trial import VALIDATION, paired_goal, scores
from training.adapt import AdaptConfig
from training.build import complete
from training.evaluate import evaluate
from training.features import FeatureStore
from training.member_training import TrainedMembers, train_members
from training.stages import StagesConfig
from training.suggester_config import SuggesterConfig

QUICK_SEEDS = 5
QUICK_TRIED = 3
"""Orders on which a quick run tries the options; what the network adds is told of all."""
TUNED_AND_TAUGHT = "with fine-tuned top layers and teacher"
FULL_ONLY = ("no graph", "with queries from the hierarchy", "with Hill loss", TUNED_AND_TAUGHT)
"""Options that a quick run leaves out."""
QUICK_TUNING, FULL_TUNING = AdaptConfig(epochs=3), AdaptConfig()
TUNED_IF_QUICK = "CodiEsp EN, 50 codes"
"""A quick run fine-tunes the encoder on this corpus alone: it is the row that takes longest."""
WORTH = 0.02
"""Micro-F1 that the network should add."""
WITHOUT, ALL = "without network", "all"
SHOWN = ("data", "members", "micro_f1", "change", "alone_micro_f1", "alone_map")
LEFT_OUT, ADDED = "no ", "with "
"""What the names of the other rows begin with."""


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
    chosen: Chosen = EVERYTHING,
) -> Measured:
    """Train a suggester without the network, with it, and with one option of it less or more.

    `change` is against the suggester without network, trained on the same EMRs in the same order;
    its other members are trained once per order. `alone_micro_f1` and `alone_map` are the
    network's own, at a threshold from a part of the unseen EMRs.

    Args:
        quick: Five orders of few EMRs (`network_fusion_data`), the preset `quick`; the options on
            three of them, without those that a full run alone has.
        seeds: One order each; the simulated hospital is another one for each.
        progress: Called after each suggester.
        data: The folder of CodiEsp's English and (not if quick) Spanish cases, of which the 50 most
            frequent codes are taken.
        kept: Where finished rows are.
        chosen: Which corpora and suggesters are compared.
    """
    trials = Trials(quick, seeds, progress=progress, kept=kept, most=QUICK_SEEDS)
    tried = trials.seeds[:QUICK_TRIED] if quick else trials.seeds
    rows: list[dict[str, Any]] = []
    for seed in trials.seeds:
        stages = replace(trials.config, seed=seed)
        with feature_cache() as cache:
            contests = [Contest(place) for place in corpora(trials, cache, seed, data, chosen)]
            options = [
                chosen.of_rows(variants(stages, contest.gives, quick=quick), always=2)
                for contest in contests
            ]
            if seed in tried:
                others = len(trials.seeds) - len(tried)
                trials.total = len(tried) * sum(map(len, options)) + others * 2 * len(contests)
            else:
                options = [
                    {name: networks[name] for name in (WITHOUT, ALL)} for networks in options
                ]
            for contest, networks in zip(contests, options, strict=True):
                rows += contest.rows(networks)
    figure = Changes(rows, place="data", setting="members", against="the suggester without").draw
    data_hash = hash_of_all(trials.hashes)
    return Measured(rows, goals(rows), trials.seeds, data_hash, SHOWN, figure=figure)


def variants(
    stages: StagesConfig, corpus: Gives, *, quick: bool = False
) -> dict[str, StagesConfig | None]:
    """The suggesters to compare: without network, with it, with one option of it less or more.

    An option that the corpus gives nothing for is left out: evidence or EMRs without codes. The
    loss for missing codes takes the place of the other where the noisy codes are, or else the clean
    ones.
    """
    noisy, clean = stages.noisy, stages.clean
    graph = replace(stages.extractor, layers=0)
    found: dict[str, StagesConfig | None] = {
        WITHOUT: None,
        ALL: stages,
        "no queries from names": replace(stages, start_from_names=False, hierarchy=0.0),
        "no graph": replace(stages, extractor=graph),
        "with queries from the hierarchy": replace(stages, hierarchy=0.5),
        "with the sparse model as teacher": replace(stages, noisy=replace(noisy, taught=1.0)),
    }
    if corpus.evidence:
        found["no evidence"] = replace(stages, clean=replace(clean, evidence=0.0))
    if corpus.raw:
        found["no unlabelled EMRs"] = replace(stages, raw=replace(stages.raw, epochs=0))
    if corpus.noisy:
        found["with Hill loss"] = replace(stages, noisy=replace(noisy, codes_loss="hill"))
    else:
        found["with Hill loss"] = replace(stages, clean=replace(clean, codes_loss="hill"))
    if importlib.util.find_spec("peft") is not None and (
        not quick or corpus.name == TUNED_IF_QUICK
    ):
        tuning = QUICK_TUNING if quick else FULL_TUNING
        tuned = replace(stages, adapt=tuning)
        found["with fine-tuned top layers"] = tuned
        found[TUNED_AND_TAUGHT] = replace(tuned, noisy=replace(noisy, taught=1.0))
    return {name: s for name, s in found.items() if not (quick and name in FULL_ONLY)}


@dataclass
class Contest:
    """The suggesters on one corpus; what they have in common is trained and read once."""

    place: Place[Corpus]

    @property
    def gives(self) -> Gives:
        """What the corpus has for the options, which tells without reading it who takes part."""
        return Gives(**self.place.fact("gives", lambda: asdict(self.place.data.gives())))

    @cached_property
    def members(self) -> TrainedMembers:
        """All but the network."""
        corpus = self.place.data
        return train_members(
            corpus.emrs,
            corpus.noisy,
            corpus.clean,
            codes=corpus.codes,
            taxonomy=corpus.taxonomy,
            encoder=self.place.trials.encoder,
            config=SuggesterConfig(seed=self.place.seed),
        )

    def rows(self, options: Mapping[str, StagesConfig | None]) -> list[dict[str, Any]]:
        """One per suggester; `change` is against the first."""
        rows: list[dict[str, Any]] = []
        for members, network in options.items():
            config = SuggesterConfig(network=network, seed=self.place.seed)
            figures = self.place.row(members, config, partial(self.judge, config))
            first = rows[0]["micro_f1"] if rows else figures["micro_f1"]
            about = {"data": self.place.name, "members": members, "seed": self.place.seed}
            rows.append({**about, **figures, "change": round(figures["micro_f1"] - first, 4)})
        return rows

    def judge(self, config: SuggesterConfig) -> dict[str, float]:
        """Figures on the unseen EMRs at the threshold that the suggester has set itself."""
        corpus, cache = self.place.data, self.place.cache
        suggester = complete(
            self.members,
            codes=corpus.codes,
            taxonomy=corpus.taxonomy,
            encoder=self.place.trials.encoder,
            config=config,
            raw=corpus.raw,
            cache=cache,
        )
        truth_NK = targets(corpus.truth, corpus.codes)
        its = suggester.members.network
        if its is not None:
            its.store = FeatureStore(its.encoder, cache)
        fused = evaluate(suggester.predict(corpus.unseen), truth_NK, threshold=suggester.threshold)
        figures = {name: round(fused[name], 4) for name in ("micro_f1", "macro_f1", "map")}
        if its is not None:
            first = round(VALIDATION * len(corpus.unseen))
            alone = scores(its.predict(corpus.unseen), truth_NK, first)
            figures |= {f"alone_{name}": alone[name] for name in ("micro_f1", "map")}
        return figures


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per corpus what the network adds to the fusion, and what each of its options gives.

    An option's gain is with it less without it, on the same EMRs in the same order: in the fusion,
    and of the network alone.
    """
    found = []
    for name in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == name]
        added = list(_of(mine, ALL, "change").values())
        found.append(paired_goal(f"network adds, {name}", f">= {WORTH}", added))
        for members in dict.fromkeys(row["members"] for row in mine):
            if members in (WITHOUT, ALL):
                continue
            option = members.removeprefix(LEFT_OUT).removeprefix(ADDED)
            for figure, where in (("micro_f1", "in the fusion"), ("alone_micro_f1", "alone")):
                every = _of(mine, ALL, figure)
                sign = 1 if members.startswith(ADDED) else -1
                gain = [
                    sign * (value - every[seed])
                    for seed, value in _of(mine, members, figure).items()
                ]
                found.append(paired_goal(f"{option}: gain {where}, {name}", ">= 0", gain))
    return found


def _of(rows: Sequence[Mapping[str, Any]], members: str, figure: str) -> dict[int, float]:
    """By seed."""
    return {row["seed"]: row[figure] for row in rows if row["members"] == members}
