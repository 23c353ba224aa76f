"""Experiment: what wrong training codes cost, how much is mended, and which errors are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from label_config.measured import Measured, Progress, goal
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.experiments.cells import Cell, finished, first_seeds
from simulator.experiments.codiesp_data import Language
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.noise_data import SIMULATED, TRAINED, Corpus, read, simulated
from simulator.experiments.noise_rare import BANDS, rare_cells
from simulator.experiments.noise_spoilt import Spoilt, spoil
from training.auditor import KINDS, findings
from training.evaluate import counts_figures
from training.label_noise import Mended, mend
from training.lexicon import Lexicon
from training.out_of_fold import targets
from training.sparse import SparseModel
from training.thresholds import best_threshold

Floats = npt.NDArray[np.float64]
LANGUAGES: tuple[Language, ...] = ("es", "en")
RATES = (0.0, 0.1, 0.3, 0.5)
QUICK_RATES = (0.0, 0.3)
HELD = 60
"""Clean EMRs that set the threshold of every method."""
SHOWN = (
    *("data", "noise", "method", "micro_f1", "cost"),
    *(f"ap_{kind}" for kind in KINDS),
    *(f"recall15_{low}_{high}" for low, high in BANDS),
)
L1, L1_LEXICON, OURS = "L1", "L1 + lexicon", "L1 + lexicon, mended"


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Spoil the training codes at several rates; train with and without mending, and audit.

    All methods learn from the same EMRs and set their threshold on the same few clean ones;
    mending and auditing see no clean EMR.

    Args:
        quick: One seed, two rates and one corpus.
        seeds: One split and one spoiling per seed.
        progress: Called after each rate of each corpus and seed.
        data: Folder with codiesp_{es,en}_traindev.jsonl; without it only simulated EMRs.
        kept: Where finished rows are, per rate, corpus and seed.
    """
    seeds = first_seeds(seeds, quick=quick, most=1)
    cells = _spoilt_cells(quick, seeds, data)
    if data is not None and not quick:
        cells += rare_cells(read(data, "en", top=None), seeds)
    rows, digest = finished(cells, len(cells), kept=kept, progress=progress)
    add_costs([row for row in rows if "micro_f1" in row])
    return Measured(rows, goals(rows), seeds, digest, shown=SHOWN)


def _spoilt_cells(quick: bool, seeds: Sequence[int], data: Path | None) -> list[Cell]:
    """Every rate of every corpus and seed; a hospital is simulated once for all its rates."""
    taxonomy = Taxonomy.icd10cm()
    sources: list[tuple[str, str, Callable[[int], Corpus]]] = []
    if data is not None:
        real = [read(data, language) for language in (LANGUAGES[:1] if quick else LANGUAGES)]
        sources += [(corpus.name, corpus.hash, partial(_same, corpus)) for corpus in real]
    if data is None or not quick:
        sources.append((SIMULATED, "", lru_cache(maxsize=1)(simulated)))
    return [
        Cell(
            {"data": name, "hash": content, "seed": seed, "noise": rate},
            partial(_spoilt_cell, draw, taxonomy, rate, seed),
        )
        for name, content, draw in sources
        for seed in seeds
        for rate in (QUICK_RATES if quick else RATES)
    ]


def _same(corpus: Corpus, seed: int) -> Corpus:
    """Real cases are the same for every seed."""
    return corpus


def _spoilt_cell(
    draw: Callable[[int], Corpus], taxonomy: Taxonomy, rate: float, seed: int
) -> tuple[str, list[dict[str, Any]]]:
    corpus = draw(seed)
    return corpus.hash, play(corpus, taxonomy, rate, seed)


def play(corpus: Corpus, taxonomy: Taxonomy, rate: float, seed: int) -> list[dict[str, Any]]:
    """Rows of every method at one rate."""
    order = np.random.default_rng(seed).permutation(len(corpus.emrs)).tolist()
    cut = int(TRAINED * len(order))
    train, held, test = order[:cut], order[cut : cut + HELD], order[cut + HELD :]
    emrs, gold = corpus.part(train)
    given, errors = spoil(gold, corpus.codes, taxonomy, rate, seed)
    inside = set(corpus.codes)
    outside = sorted({error.code for error in errors} - inside)
    audited = (*corpus.codes, *outside)
    mended = mend(emrs, given, codes=audited, taxonomy=taxonomy)
    about = {"data": corpus.name, "noise": rate, "seed": seed}
    held_emrs, test_emrs = corpus.part(held)[0], corpus.part(test)[0]
    held_NK = targets(corpus.part(held)[1], corpus.codes)
    test_NK = targets(corpus.part(test)[1], corpus.codes)
    rows = []
    for method, learned in ((L1, given), (L1_LEXICON, given), (OURS, list(mended.codings))):
        model = _train(emrs, learned, corpus.codes, taxonomy, with_lexicon=method != L1)
        threshold, _ = best_threshold(model(held_emrs), held_NK)
        f1 = counts_figures(model(test_emrs) >= threshold, test_NK)["micro_f1"]
        rows.append({**about, "method": method, "micro_f1": round(f1, 4)})
    rows[-1] |= {
        **precisions(mended, given, gold, errors, audited, taxonomy),
        "miss_rate": round(mended.rates.miss, 3),
        "codes_right_before": _agreement(given, gold, corpus.codes),
        "codes_right_after": _agreement(mended.codings, gold, corpus.codes),
    }
    return rows


def _train(
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    codes: Sequence[str],
    taxonomy: Taxonomy,
    *,
    with_lexicon: bool,
) -> Any:
    sparse = SparseModel.fit([emr.long_text for emr in emrs], targets(codings, codes), codes)
    lexicon = Lexicon.fit(emrs, codings, taxonomy, codes) if with_lexicon else None

    def predict(others: Sequence[EMR]) -> Floats:
        probs_NK = sparse.predict([emr.long_text for emr in others])
        return probs_NK if lexicon is None else (probs_NK + lexicon.scores(others)) / 2

    return predict


def precisions(
    mended: Mended,
    given: Sequence[Coding],
    gold: Sequence[Coding],
    errors: Sequence[Spoilt],
    codes: Sequence[str],
    taxonomy: Taxonomy,
) -> dict[str, float]:
    """Average precision of the auditor's ranking per kind of error that there is.

    Missing codes are ranked among all that were not given, whatever stands in their place; the
    other kinds among the given codes.
    """
    figures = {}
    given_NK = targets(given, codes)
    absent = targets(gold, codes)[~given_NK]
    if absent.any():
        text = mended.text_NK[~given_NK]
        figures["ap_missing"] = round(float(average_precision_score(absent, text)), 4)
    found = list(findings(mended, given, codes, taxonomy))
    truth = {(e.emr_id, e.kind, e.code) for e in errors}
    for kind in KINDS[1:]:
        own = [f for f in found if f.kind == kind]
        hit = np.array([(f.emr_id, kind, f.code) in truth for f in own], dtype=bool)
        wanted = sum(e.kind == kind for e in errors)
        if wanted:
            # an error that the auditor did not rank among its kind is never found
            ranked = average_precision_score(hit, [f.score for f in own]) if hit.any() else 0.0
            figures[f"ap_{kind}"] = round(float(ranked * hit.sum() / wanted), 4)
    return figures


def _agreement(codings: Sequence[Coding], gold: Sequence[Coding], codes: Sequence[str]) -> float:
    """Micro-F1 of training codes against the true ones."""
    figures = counts_figures(targets(codings, codes), targets(gold, codes))
    return round(figures["micro_f1"], 4)


def add_costs(rows: list[dict[str, Any]]) -> None:
    """Add to each row what its noise costs the same method on the same split."""
    clean = {(r["data"], r["seed"], r["method"]): r["micro_f1"] for r in rows if not r["noise"]}
    for row in rows:
        row["cost"] = round(clean[row["data"], row["seed"], row["method"]] - row["micro_f1"], 4)


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians over seeds, each corpus by itself: those without evidence lose more to noise."""
    wanted = [
        (0.3, "cost_at_30", "<= 0.01", "cost"),
        (0.5, "cost_at_50", "<= 0.05", "cost"),
        (0.3, "missing_ap_at_30", ">= 0.85", "ap_missing"),
    ]
    found = []
    for corpus in dict.fromkeys(row["data"] for row in rows):
        for rate, name, target, column in wanted:
            own = [r for r in rows if (r["data"], r["noise"], r["method"]) == (corpus, rate, OURS)]
            values = [row[column] for row in own if column in row]
            if values:
                found.append(goal(f"{name}, {corpus}", target, float(np.median(values))))
    return found
