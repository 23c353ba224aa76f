"""Experiment: what the network, and each of its options, adds to the fusion of all others."""

from __future__ import annotations

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
from simulator.experiments.codiesp_data import SECTION, frequent_codes, read_cases
from simulator.experiments.network_data import load_encoder, targets, ward
from simulator.experiments.network_trial import paired_goal
from training.encoder import Encoder
from training.evaluate import evaluate
from training.stages import StagesConfig
from training.suggest import Suggester, SuggesterConfig

QUICK_SIZES, FULL_SIZES = (0, 50, 80, 70), (800, 1_500, 400, 800)
"""Raw, noisy, clean and unseen EMRs of the simulated hospital."""
QUICK_SEEDS = 1
QUICK_CASES = 400
TOP = 50
TEST = 1 / 3
WORTH = 0.02
"""Micro-F1 that the network should add."""
WITHOUT, ALL = "without network", "all"


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
    """Train a suggester without the network, with it, and with one option of it left out.

    `change` is against the suggester without network, trained on the same EMRs in the same order.

    Args:
        quick: One order, 50 noisy, 80 clean and 70 unseen EMRs, the preset `quick`.
        seeds: One order each; the simulated hospital is another one for each.
        progress: Called after each suggester.
        data: The folder of CodiEsp's English cases, of which the 50 most frequent codes are taken.
    """
    seeds = tuple(seeds)[:QUICK_SEEDS] if quick else tuple(seeds)
    encoder = load_encoder()
    rows: list[dict[str, Any]] = []
    hashes = []
    for seed in seeds:
        stages = StagesConfig.quick(seed=seed) if quick else StagesConfig.best(seed=seed)
        corpora = list(_corpora(quick, seed, encoder, data))
        settings = [variants(stages, raw=bool(corpus.raw)) for corpus in corpora]
        total = len(seeds) * sum(map(len, settings))
        for corpus, networks in zip(corpora, settings, strict=True):
            hashes.append(data_hash(corpus.emrs))
            mine: list[dict[str, Any]] = []
            for members, network in networks.items():
                about = {"data": corpus.name, "members": members, "seed": seed}
                mine.append(about | _judge(corpus, encoder, network, seed))
                mine[-1]["change"] = round(mine[-1]["micro_f1"] - mine[0]["micro_f1"], 4)
                if progress is not None:
                    progress(len(rows) + len(mine), total)
            rows += mine
    return Measured(rows, goals(rows), seeds, "-".join(hashes)[:16])


def variants(stages: StagesConfig, *, raw: bool) -> dict[str, StagesConfig | None]:
    """The suggesters to compare: without network, with it, and with one of its options left out.

    `raw` says whether there are unlabelled EMRs for stage 1.
    """
    evidence = replace(stages.clean, evidence=0.0)
    graph = replace(stages.extractor, layers=0)
    found: dict[str, StagesConfig | None] = {
        WITHOUT: None,
        ALL: stages,
        "no queries from names": replace(stages, start_from_names=False),
        "no evidence": replace(stages, clean=evidence),
        "no graph": replace(stages, extractor=graph),
    }
    if raw:
        found["no unlabelled EMRs"] = replace(stages, raw=replace(stages.raw, epochs=0))
    return found


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


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per corpus what the network adds to the fusion, and what of it each of its options gave."""
    found = []
    for name in dict.fromkeys(row["data"] for row in rows):
        changes: dict[str, list[float]] = {}
        for row in rows:
            if row["data"] == name:
                changes.setdefault(row["members"], []).append(row["change"])
        whole = changes.pop(ALL)
        found.append(paired_goal(f"network adds, {name}", f">= {WORTH}", whole))
        for left_out, without in changes.items():
            if left_out != WITHOUT:
                gain = [a - b for a, b in zip(whole, without, strict=True)]
                option = left_out.removeprefix("no ")
                found.append(paired_goal(f"{option}: gain in the fusion, {name}", ">= 0", gain))
    return found
