"""Experiment: what the network adds to the fusion of names, lexicon, phrases and sparse model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from label_config.errors import DataError
from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.experiments.codiesp_data import SECTION, frequent_codes, read_cases
from simulator.experiments.network_data import targets, ward
from training.encoder import Encoder
from training.evaluate import evaluate
from training.stages import StagesConfig
from training.suggest import Suggester, SuggesterConfig

QUICK_SIZES, FULL_SIZES = (0, 250, 120, 200), (800, 1_500, 400, 800)
"""Raw, noisy, clean and unseen EMRs of the simulated hospital."""
QUICK_SEEDS = 2
QUICK_CASES = 400
TOP = 50
TEST = 1 / 3
WORTH = 0.02
"""Micro-F1 that the network should add."""


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
    """Train a suggester without and with the network on the same EMRs, for every order.

    Args:
        quick: Two orders, fewer EMRs, the preset `quick`.
        seeds: One order each; the simulated hospital is another one for each.
        progress: Called after each suggester.
        data: The folder of CodiEsp's English cases, of which the 50 most frequent codes are taken.
    """
    seeds = tuple(seeds)[:QUICK_SEEDS] if quick else tuple(seeds)
    encoder = Encoder.load()
    rows: list[dict[str, Any]] = []
    hashes = []
    total = len(seeds) * (2 if data is None else 4)
    for seed in seeds:
        for corpus in _corpora(quick, seed, encoder, data):
            hashes.append(data_hash(corpus.emrs))
            stages = StagesConfig.quick(seed=seed) if quick else StagesConfig.best(seed=seed)
            without = 0.0
            for network in (None, stages):
                figures = _judge(corpus, encoder, network, seed)
                without = without or figures["micro_f1"]
                rows.append(
                    {
                        "data": corpus.name,
                        "members": "all" if network else "without network",
                        "seed": seed,
                        **figures,
                        "change": round(figures["micro_f1"] - without, 4),
                    }
                )
                if progress is not None:
                    progress(len(rows), total)
    return Measured(rows, _goals(rows), seeds, "-".join(hashes)[:16])


def _judge(
    corpus: Corpus, encoder: Encoder, network: StagesConfig | None, seed: int
) -> dict[str, float]:
    """Figures on the unseen EMRs at the threshold that the suggester has set itself."""
    suggester = Suggester.train(
        corpus.emrs,
        corpus.noisy,
        corpus.clean,
        codes=corpus.codes,
        taxonomy=corpus.taxonomy,
        encoder=encoder,
        config=SuggesterConfig(network=network, seed=seed),
        raw=corpus.raw,
    )
    truth_NK = targets(corpus.truth, corpus.codes)
    figures = evaluate(suggester.predict(corpus.unseen), truth_NK, threshold=suggester.threshold)
    return {name: round(figures[name], 4) for name in ("micro_f1", "macro_f1", "map")}


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
        yield _codiesp(data, quick, seed)


def _codiesp(folder: Path, quick: bool, seed: int) -> Corpus:
    emrs, codings = read_cases(folder, "en")
    taxonomy = Taxonomy.icd10cm()
    codes = [code for code in frequent_codes(codings) if code in taxonomy][:TOP]
    kept = [replace(c, codes=tuple(code for code in c.codes if code in codes)) for c in codings]
    order = np.random.default_rng(seed).permutation(len(emrs))[: QUICK_CASES if quick else None]
    test, train = np.split(order, [round(TEST * len(order))])
    return Corpus(
        "CodiEsp EN, 50 codes",
        [] if quick else _unlabelled(folder),
        [emrs[i] for i in train],
        [],
        [kept[i] for i in train],
        [emrs[i] for i in test],
        [kept[i] for i in test],
        tuple(codes),
        taxonomy,
    )


def _unlabelled(folder: Path) -> list[EMR]:
    path = folder / "codiesp_en_background_unlabelled.jsonl"
    try:
        cases = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [EMR(case["id"], {SECTION: case["text"]}) for case in cases]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} must hold cases with id and text") from None


def _goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per corpus the mean change of micro-F1, with its 95 % interval over the orders."""
    goals = []
    for name in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == name and row["members"] == "all"]
        changes = np.array([row["change"] for row in mine])
        verdict = goal(f"network adds, {name}", f">= {WORTH}", float(changes.mean()))
        if len(changes) > 1:
            half = float(stats.t.ppf(0.975, len(changes) - 1) * stats.sem(changes))
            mean = changes.mean()
            verdict["interval"] = f"{mean - half:+.3f} to {mean + half:+.3f}"
        goals.append(verdict)
    return goals
