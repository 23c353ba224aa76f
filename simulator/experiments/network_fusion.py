"""Experiment: what the network, and each of its options, adds to the fusion of all others."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from label_config.errors import DataError
from label_config.files import data_hash
from label_config.measured import Measured, Progress
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.experiments.codiesp_data import SECTION, Language, frequent_codes, read_cases
from simulator.experiments.network_data import (
    feature_cache,
    hash_of_all,
    load_encoder,
    targets,
    ward,
)
from simulator.experiments.network_plot import Changes
from simulator.experiments.network_trial import VALIDATION, paired_goal, scores
from training.adapt import AdaptConfig
from training.build import complete
from training.encoder import Encoder
from training.evaluate import evaluate
from training.features import FeatureStore
from training.member_training import TrainedMembers, train_members
from training.stages import StagesConfig
from training.suggest import SuggesterConfig

QUICK_SIZES, FULL_SIZES = (40, 60, 80, 120), (800, 1_500, 400, 800)
"""Raw, noisy, clean and unseen EMRs of the simulated hospital."""
QUICK_SEEDS = 5
QUICK_CASES, QUICK_UNLABELLED = 210, 60
QUICK_TUNING, FULL_TUNING = AdaptConfig(epochs=4), AdaptConfig()
TUNED_IF_QUICK = "CodiEsp EN, 50 codes"
"""A quick run fine-tunes the encoder on this corpus alone: it is the row that takes longest."""
TOP = 50
TEST = 1 / 3
WORTH = 0.02
"""Micro-F1 that the network should add."""
WITHOUT, ALL = "without network", "all"
SHOWN = ("data", "members", "micro_f1", "change", "alone_micro_f1", "alone_map")
LEFT_OUT, ADDED = "no ", "with "
"""What the names of the other rows begin with."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """EMRs to learn from, with noisy or clean codes or none, and EMRs to judge by."""

    name: str
    raw: list[EMR]
    emrs: list[EMR]
    noisy: list[Coding]
    clean: list[Coding]
    unseen: list[EMR]
    truth: list[Coding]
    codes: tuple[str, ...]
    taxonomy: Taxonomy


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
) -> Measured:
    """Train a suggester without the network, with it, and with one option of it less or more.

    `change` is against the suggester without network, trained on the same EMRs in the same order;
    its other members are trained once per order. `alone_micro_f1` and `alone_map` are the
    network's own, at a threshold from a part of the unseen EMRs.

    Args:
        quick: Five orders of few EMRs (`QUICK_SIZES`, `QUICK_CASES`), the preset `quick`.
        seeds: One order each; the simulated hospital is another one for each.
        progress: Called after each suggester.
        data: The folder of CodiEsp's English and (not if quick) Spanish cases, of which the 50 most
            frequent codes are taken.
    """
    seeds = tuple(seeds)[:QUICK_SEEDS] if quick else tuple(seeds)
    encoder = load_encoder()
    rows: list[dict[str, Any]] = []
    hashes = []
    for seed in seeds:
        stages = StagesConfig.quick(seed=seed) if quick else StagesConfig.best(seed=seed)
        corpora = list(_corpora(quick, seed, encoder, data))
        networks = [variants(stages, corpus, quick=quick) for corpus in corpora]
        total = len(seeds) * sum(map(len, networks))
        for corpus, options in zip(corpora, networks, strict=True):
            hashes.append(data_hash(corpus.emrs))
            for row in _compare(corpus, encoder, options, seed):
                rows.append(row)
                if progress is not None:
                    progress(len(rows), total)
    figure = Changes(rows, place="data", setting="members", against="the suggester without").draw
    return Measured(rows, goals(rows), seeds, hash_of_all(hashes), SHOWN, figure=figure)


def variants(
    stages: StagesConfig, corpus: Corpus, *, quick: bool = False
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
    if any(coding.evidence for coding in corpus.clean):
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
        found["with fine-tuned top layers"] = replace(stages, adapt=tuning)
    return found


def _compare(
    corpus: Corpus, encoder: Encoder, options: Mapping[str, StagesConfig | None], seed: int
) -> Iterator[dict[str, Any]]:
    """One row per suggester; what they have in common is trained and read once."""
    trained = train_members(
        corpus.emrs,
        corpus.noisy,
        corpus.clean,
        codes=corpus.codes,
        taxonomy=corpus.taxonomy,
        encoder=encoder,
        config=SuggesterConfig(seed=seed),
    )
    first = None
    with feature_cache() as cache:
        for members, network in options.items():
            figures = _judge(corpus, trained, encoder, network, seed, cache)
            first = figures["micro_f1"] if first is None else first
            change = round(figures["micro_f1"] - first, 4)
            about = {"data": corpus.name, "members": members, "seed": seed}
            yield {**about, **figures, "change": change}


def _judge(
    corpus: Corpus,
    trained: TrainedMembers,
    encoder: Encoder,
    network: StagesConfig | None,
    seed: int,
    cache: Path,
) -> dict[str, float]:
    """Figures on the unseen EMRs at the threshold that the suggester has set itself."""
    suggester = complete(
        trained,
        codes=corpus.codes,
        taxonomy=corpus.taxonomy,
        encoder=encoder,
        config=SuggesterConfig(network=network, seed=seed),
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


def _corpora(quick: bool, seed: int, encoder: Encoder, data: Path | None) -> Iterator[Corpus]:
    hospital = ward(QUICK_SIZES if quick else FULL_SIZES, encoder, seed=seed)
    yield Corpus(
        "simulated, 50 codes",
        hospital.raw,
        [*hospital.noisy, *hospital.clean],
        hospital.noisy_codings,
        hospital.clean_codings,
        hospital.unseen,
        hospital.unseen_codings,
        hospital.codes,
        hospital.taxonomy,
    )
    if data is not None:
        languages: tuple[Language, ...] = ("en",) if quick else ("en", "es")
        for language in languages:
            yield _codiesp(data, language, quick, seed)


def _codiesp(folder: Path, language: Language, quick: bool, seed: int) -> Corpus:
    emrs, codings = read_cases(folder, language)
    taxonomy = Taxonomy.icd10cm()
    codes = [code for code in frequent_codes(codings) if code in taxonomy][:TOP]
    kept = [_only(codes, coding) for coding in codings]
    order = np.random.default_rng(seed).permutation(len(emrs))[: QUICK_CASES if quick else None]
    test, train = np.split(order, [round(TEST * len(order))])
    return Corpus(
        f"CodiEsp {language.upper()}, 50 codes",
        _unlabelled(folder, language)[: QUICK_UNLABELLED if quick else None],
        [emrs[i] for i in train],
        [],
        [kept[i] for i in train],
        [emrs[i] for i in test],
        [kept[i] for i in test],
        tuple(codes),
        taxonomy,
    )


def _only(codes: Sequence[str], coding: Coding) -> Coding:
    """The coding as far as it has these codes."""
    evidence = tuple(span for span in coding.evidence if span.code in codes)
    kept = tuple(code for code in coding.codes if code in codes)
    return replace(coding, codes=kept, evidence=evidence)


def _unlabelled(folder: Path, language: Language) -> list[EMR]:
    path = folder / f"codiesp_{language}_background_unlabelled.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:  # a text may hold other ends of lines
            cases = [json.loads(line) for line in lines]
        return [EMR(case["id"], {SECTION: case["text"]}) for case in cases]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} must hold cases with id and text") from None


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per corpus what the network adds to the fusion, and what each of its options gives.

    An option's gain is with it less without it, on the same EMRs in the same order: in the fusion,
    and of the network alone.
    """
    found = []
    for name in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == name]
        found.append(paired_goal(f"network adds, {name}", f">= {WORTH}", _of(mine, ALL, "change")))
        for members in dict.fromkeys(row["members"] for row in mine):
            if members in (WITHOUT, ALL):
                continue
            option = members.removeprefix(LEFT_OUT).removeprefix(ADDED)
            for figure, where in (("micro_f1", "in the fusion"), ("alone_micro_f1", "alone")):
                more = zip(_of(mine, members, figure), _of(mine, ALL, figure), strict=True)
                sign = 1 if members.startswith(ADDED) else -1
                gain = [sign * (a - b) for a, b in more]
                found.append(paired_goal(f"{option}: gain {where}, {name}", ">= 0", gain))
    return found


def _of(rows: Sequence[Mapping[str, Any]], members: str, figure: str) -> list[float]:
    return [row[figure] for row in rows if row["members"] == members]
