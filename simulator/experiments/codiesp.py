"""Experiment: codes of real Spanish and English cases by each member and by their fusion.

Every order draws two thirds of CodiEsp's train and dev cases to learn from and judges the rest, as
its own splits do; folds inside the training part fit the fusion and set the threshold. The test
split is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from label_config.errors import ConfigError
from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.experiments.cells import Cell, finished, first_seeds, hash_of_all
from simulator.experiments.codiesp_checks import highlight_row, promise_row
from simulator.experiments.codiesp_data import Language, frequent_codes, read_cases
from simulator.experiments.codiesp_strict import DESCRIBED, band_recalls, strict_rows
from simulator.experiments.kept import NOTHING, Kept
from training.evaluate import evaluate
from training.fusion import Fusion
from training.lexicon import Lexicon
from training.out_of_fold import draw_folds, targets
from training.phrase_model import PhraseModel
from training.phrases import Reading, read
from training.sparse import SparseConfig, inside_and_outside
from training.thresholds import best_threshold
from training.tune import fuse_unseen

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Said = dict[str, tuple[Floats, Floats]]
"""Member -> what it says of the training cases, unseen, and of the others, (N, K) each."""

TRAIN_SHARE = 2 / 3
FOLDS = 5
FOLDS_OF_MANY_CODES = 3
TOP = 50
STRICT = "all, unseen too"
FEWEST_OF_MANY_CODES = 4
"""Cases that a code needs for the sparse model, where there are thousands of codes."""
PLAIN = SparseConfig(stems=False)
FUSED = ("lexicon", "phrases", "sparse")
SHOWN = (
    *("language", "codes", "cases", "member"),
    *("micro_f1", "macro_f1", "map", "macro_ap", "ece", "validation_f1"),
    *("recall@15 0", "recall@15 1-1", "recall@15 2-5", "recall@15 6-20", "recall@15 21+"),
    *("f1", "top1", "kept", "candidates_to_top_k"),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Which codes, learned from how many cases."""

    language: Language
    top: int | None
    cases: int | None

    @property
    def name(self) -> dict[str, Any]:
        """As a row begins."""
        codes = "all" if self.top is None else f"top {self.top}"
        return {
            "language": self.language,
            "codes": codes,
            "cases": "all" if self.cases is None else str(self.cases),
        }


QUICK = (Setting("es", TOP, None), Setting("es", TOP, 100), Setting("es", TOP, 25))
FULL = (*QUICK, Setting("es", None, None), Setting("en", TOP, None), Setting("en", TOP, 100))


@dataclass(frozen=True)
class Corpus:
    """One language's cases, read once."""

    emrs: list[EMR]
    codings: list[Coding]

    @cached_property
    def hash(self) -> str:
        """Of all cases and their codes."""
        return hash_of_all([data_hash(self.emrs), data_hash(self.codings)])

    @cached_property
    def readings(self) -> list[Reading]:
        """For the phrase model."""
        return read(self.emrs)


@dataclass(frozen=True)
class Part:
    """Cases to learn from (`train`) and to be judged on (`test`), and the codes in question."""

    corpus: Corpus
    train: Ints
    test: Ints
    codes: list[str]
    folds: int
    seed: int

    @cached_property
    def folds_N(self) -> Ints:  # noqa: N802
        """A fold per training case."""
        return draw_folds(len(self.train), self.folds, seed=self.seed)

    def coded(self, rows: Ints) -> list[Coding]:
        """Their codings."""
        return [self.corpus.codings[i] for i in rows]

    def texts(self, rows: Ints) -> list[str]:
        """Their texts."""
        return [self.corpus.emrs[i].long_text for i in rows]

    def truth(self, rows: Ints) -> NDArray[np.bool_]:
        """Which of the codes they have, (N, K)."""
        return targets(self.coded(rows), self.codes)


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Learn, tune and judge per order and setting.

    Args:
        quick: Spanish top-50 codes only, and at most two orders.
        seeds: One order of the cases per seed.
        progress: Called after each setting.
        data: The folder with the CodiEsp files.
        kept: Where finished rows are, per order and setting.
    """
    if data is None:
        raise ConfigError(
            "the codiesp experiment needed the folder of its cases (--data), got none"
        )
    seeds = first_seeds(seeds, quick=quick, most=2)
    settings = QUICK if quick else FULL
    languages = dict.fromkeys(setting.language for setting in settings)
    corpora = {language: Corpus(*read_cases(data, language)) for language in languages}
    taxonomy = Taxonomy.icd10cm()
    cells = [
        Cell(
            {**setting.name, "seed": seed, "data": corpora[setting.language].hash},
            partial(_cell, corpora[setting.language], setting, seed, taxonomy),
        )
        for seed in seeds
        for setting in settings
    ]
    rows, digest = finished(cells, len(cells), kept=kept, progress=progress)
    return Measured(rows, goals(rows), seeds, digest, shown=SHOWN)


def _cell(
    corpus: Corpus, setting: Setting, seed: int, taxonomy: Taxonomy
) -> tuple[str, list[dict[str, Any]]]:
    return corpus.hash, _rows(corpus, setting, seed, taxonomy)


def _rows(corpus: Corpus, setting: Setting, seed: int, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """One row per member, and in the main setting those of highlights and of the promise."""
    part = draw(corpus, setting, seed)
    said, truth, inside = members(part, taxonomy), part.truth(part.test), part.truth(part.train)
    rows = []
    if setting.top is None:
        rows += _strict_rows(part, setting, said["fusion"], taxonomy)
    seen_K = inside.any(axis=0) if setting.top is None else np.ones(len(part.codes), dtype=bool)
    for member, (unseen_NK, other_NK) in said.items():
        threshold, validation = best_threshold(unseen_NK[:, seen_K], inside[:, seen_K])
        row = {**setting.name, "member": member, "seed": seed, "validation_f1": validation}
        row |= evaluate(other_NK[:, seen_K], truth[:, seen_K], threshold=threshold)
        row |= band_recalls(other_NK[:, seen_K], truth[:, seen_K], inside[:, seen_K].sum(axis=0))
        if setting.top is None:
            row["positives_with_known_code"] = float(truth[:, seen_K].sum() / truth.sum())
        rows.append(row)
    if setting == QUICK[0]:
        probs_NK, both = np.concatenate(said["fusion"]), np.concatenate([inside, truth])
        promise = promise_row(probs_NK, both, seed=seed)
        rows.append({**setting.name, "member": "promise", "seed": seed, **promise})
        emrs = [corpus.emrs[i] for i in part.test]
        found = highlight_row(
            part.texts(part.train), inside, part.codes, emrs, part.coded(part.test)
        )
        rows.append({**setting.name, "member": "highlights", "seed": seed, **found})
    return rows


def _strict_rows(
    part: Part, setting: Setting, fused: tuple[Floats, Floats], taxonomy: Taxonomy
) -> list[dict[str, Any]]:
    """Codes that no case to learn from has are missed unless something finds them."""
    learned, judged = (
        ([part.corpus.emrs[i] for i in rows], part.coded(rows)) for rows in (part.train, part.test)
    )
    rows = strict_rows(learned, judged, fused, part.folds_N, codes=part.codes, taxonomy=taxonomy)
    return [{**setting.name, "codes": STRICT, "seed": part.seed, **row} for row in rows]


def draw(corpus: Corpus, setting: Setting, seed: int) -> Part:
    """Shuffle, cut, and name the codes most frequent among all cases to learn from.

    Where all codes are asked for, the set is every code of the corpus, as a hospital's list would
    be; those that no case to learn from has come last.
    """
    order = np.random.default_rng(seed).permutation(len(corpus.emrs))
    cut = round(TRAIN_SHARE * len(order))
    codes = frequent_codes([corpus.codings[i] for i in order[:cut]], setting.top)
    if setting.top is None:
        codes = list(dict.fromkeys([*codes, *frequent_codes(corpus.codings)]))
    train = order[: min(cut, setting.cases or cut)]
    folds = FOLDS if setting.top is not None else FOLDS_OF_MANY_CODES
    return Part(corpus, train, order[cut:], codes, folds, seed)


def members(part: Part, taxonomy: Taxonomy) -> Said:
    """Every row's scores."""
    many = len(part.codes) > TOP
    least = FEWEST_OF_MANY_CODES if many else SparseConfig().min_positives
    said: Said = {"titles": _titles(part, taxonomy), "lexicon": _lexicon(part, taxonomy)}
    if not many:
        said["L1"] = _sparse(part, PLAIN)
        said["L1 + lexicon"] = _mean(said["L1"], said["lexicon"])
    said["phrases"] = _phrases(part, taxonomy)
    said["sparse"] = _sparse(part, SparseConfig(min_positives=least))
    said["fusion"] = fuse({name: said[name] for name in FUSED}, part)
    return said


def fuse(said: Said, part: Part) -> tuple[Floats, Floats]:
    """Fuse as the suggester does: what is said of the training cases misses their own fold."""
    fusion, unseen = Fusion(tuple(said)), {m: s for m, (s, _) in said.items()}
    inside_NK = fuse_unseen(fusion, unseen, part.truth(part.train), part.folds_N)
    return inside_NK, fusion.combine({m: s for m, (_, s) in said.items()})


def _titles(part: Part, taxonomy: Taxonomy) -> tuple[Floats, Floats]:
    """The codes' official names alone, before any case is coded."""
    lexicon = Lexicon.fit([], [], taxonomy, part.codes)
    emrs = part.corpus.emrs
    inside, outside = ([emrs[i] for i in rows] for rows in (part.train, part.test))
    return lexicon.scores(inside), lexicon.scores(outside)


def _lexicon(part: Part, taxonomy: Taxonomy) -> tuple[Floats, Floats]:
    def learn(rows: Ints, judged: Ints) -> Floats:
        emrs = part.corpus.emrs
        lexicon = Lexicon.fit([emrs[i] for i in rows], part.coded(rows), taxonomy, part.codes)
        return lexicon.scores([emrs[i] for i in judged])

    return _crossed(part, learn)


def _phrases(part: Part, taxonomy: Taxonomy) -> tuple[Floats, Floats]:
    def learn(rows: Ints, judged: Ints) -> Floats:
        readings = part.corpus.readings
        model = PhraseModel.fit(
            [readings[i] for i in rows], part.coded(rows), taxonomy, part.codes, seed=part.seed
        )
        return model.scores([readings[i] for i in judged])

    return _crossed(part, learn)


def _crossed(part: Part, learn: Any) -> tuple[Floats, Floats]:
    """`learn(rows, judged)` without each fold in turn, then on all training cases."""
    inside_NK = np.zeros((len(part.train), len(part.codes)))
    for fold in range(part.folds):
        held = part.folds_N == fold
        inside_NK[held] = learn(part.train[~held], part.train[held])
    return inside_NK, learn(part.train, part.test)


def _sparse(part: Part, config: SparseConfig) -> tuple[Floats, Floats]:
    return inside_and_outside(
        part.texts(part.train),
        part.truth(part.train),
        part.folds_N,
        part.texts(part.test),
        config,
    )


def _mean(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over orders against the goals; a goal without rows of its kind has value nan.

    Of all codes, those that no case to learn from has are left out of "seen codes", and missed or
    known by name in "unseen too".
    """

    def mean(figure: str, member: str = "fusion", **where: str) -> float:
        wanted = {"language": "es", "codes": f"top {TOP}", "cases": "all", **where}
        values = [
            row[figure]
            for row in rows
            if row["member"] == member and all(row[k] == v for k, v in wanted.items())
        ]
        return float(np.mean(values)) if values else float("nan")

    english = mean("micro_f1", language="en") - mean("micro_f1", "L1 + lexicon", language="en")
    return [
        goal("es_top50_f1", ">= 0.93", mean("micro_f1")),
        goal("es_top50_f1_100_cases", ">= 0.9", mean("micro_f1", cases="100")),
        goal("es_top50_f1_25_cases", ">= 0.8", mean("micro_f1", cases="25")),
        goal("es_seen_codes_f1", ">= 0.74", mean("micro_f1", codes="all")),
        goal("es_seen_codes_map", ">= 0.7", mean("map", codes="all")),
        goal("es_unseen_too_f1", ">= 0.74", mean("micro_f1", DESCRIBED, codes=STRICT)),
        goal("es_unseen_too_map", ">= 0.7", mean("map", DESCRIBED, codes=STRICT)),
        goal("en_top50_f1_over_baseline", ">= 0", english),
        goal("validation_optimism", "<= 0.01", mean("validation_f1") - mean("micro_f1")),
        goal("highlight_f1", ">= 0.8", mean("f1", "highlights")),
        goal("highlight_top1", ">= 0.95", mean("top1", "highlights")),
        goal("promise_kept", ">= 0.95", mean("kept", "promise")),
        goal("promise_to_top_k", "<= 0.5", mean("candidates_to_top_k", "promise")),
    ]
