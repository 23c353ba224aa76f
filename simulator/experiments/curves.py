"""Experiment: how good a model gets per EMR annotated, by the policy that chose the EMRs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from label_config.measured import Measured, Progress, goal
from label_config.taxonomy import Taxonomy
from sampler import CoverageSampler
from sampler.labels import code_matrix
from sampler.synthetic import PoolConfig, pool_from_clean
from simulator.experiments.cells import Cell, finished, first_seeds
from simulator.experiments.codiesp_data import Language, frequent_codes, read_cases
from simulator.experiments.kept import NOTHING, Kept
from simulator.hospital import Hospital
from simulator.knowledge import load_pack

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

N_SIMULATED = 3_000
SIMULATED = "simulated, 50 codes"
TOP = 50
QUOTA = 20
NOISE = 0.3
VALIDATION = 100
TEST = 1 / 4
SIZES = (25, 50, 100, 200, 300, 400)
"""EMRs annotated at the points of a curve; a model is trained at each."""
QUICK_SIZES = (25, 50, 100, 200)
POLICIES = ("random", "uncertainty", "coverage")
LEARNS_FROM = ("clean", "clean and noisy")
THRESHOLDS = np.linspace(0.05, 0.6, 23)
CORPORA: dict[str, tuple[Language, bool]] = {
    "codiesp es, 50 codes": ("es", False),
    "codiesp es, chapters": ("es", True),
    "codiesp en, chapters": ("en", True),
}


@dataclass(frozen=True)
class Corpus:
    """Texts with their true codes."""

    name: str
    texts: list[str]
    clean: sp.csr_matrix
    """(N, K) ones."""
    category: Rows
    """(K,) ascending."""

    @cached_property
    def hash(self) -> str:
        """Of texts and codes."""
        digest = hashlib.sha256("".join(self.texts).encode())
        digest.update(self.clean.indptr.tobytes() + self.clean.indices.tobytes())
        return digest.hexdigest()[:16]


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Draw the curves of every policy on the simulated hospital and, with `data`, on CodiEsp.

    The noisy codes carry the mapper errors of `sampler.synthetic` (30 %). The threshold of each
    model is the best one on 100 EMRs that are the same for all policies.

    Args:
        quick: Two seeds, the simulated corpus and CodiEsp's 50 codes, fewer points.
        seeds: Of split, noise and ties; the simulated hospital is another one for each.
        progress: Called after each curve.
        data: The folder with `codiesp_{es,en}_traindev.jsonl`.
        kept: Where finished curves are.
    """
    seeds = first_seeds(seeds, quick=quick, most=2)
    sizes = QUICK_SIZES if quick else SIZES
    wanted = dict(islice(CORPORA.items(), 1 if quick else None)) if data is not None else {}
    real = [
        _codiesp(name, Path(data or ""), language, chapters=chapters)
        for name, (language, chapters) in wanted.items()
    ]
    total = len(seeds) * (1 + len(real)) * len(POLICIES) * len(LEARNS_FROM)
    cells = (cell for seed in seeds for cell in _cells(seed, real, sizes))
    rows, digest = finished(cells, total, kept=kept, progress=progress)
    return Measured(rows, _goals(rows), seeds, digest, figure=Figure(rows).draw)


def _cells(seed: int, real: Sequence[Corpus], sizes: Sequence[int]) -> Iterator[Cell]:
    """The curves of one seed; texts are drawn and read where one of theirs is not kept."""
    sources: list[tuple[str, str, Callable[[], Corpus]]] = [
        (SIMULATED, "", partial(_simulated, seed)),
        *((corpus.name, corpus.hash, partial(_same, corpus)) for corpus in real),
    ]
    for name, content, draw in sources:
        trial = cache(partial(_trial, draw, seed))
        for policy, learns_from in product(POLICIES, LEARNS_FROM):
            about = {"data": name, "learns_from": learns_from, "policy": policy}
            key = about | {"seed": seed, "hash": content, "sizes": sizes}
            yield Cell(key, partial(_curve, trial, about, sizes))


def _same(corpus: Corpus) -> Corpus:
    """Real cases are read already."""
    return corpus


def _trial(draw: Callable[[], Corpus], seed: int) -> Trial:
    return Trial(draw(), seed)


def _curve(
    trial: Callable[[], Trial], about: dict[str, str], sizes: Sequence[int]
) -> tuple[str, list[dict[str, Any]]]:
    """The hash of the corpus, and a row per point."""
    its, noisy = trial(), about["learns_from"] != "clean"
    points = its.curve(about["policy"], sizes, noisy=noisy)
    rows = [about | {"annotated": size, "seed": its.seed} | scores for size, scores in points]
    return its.data_hash, rows


class Trial:
    """One split of a corpus into pool, validation and test, with noisy codes for the pool."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self.seed, self.data_hash = seed, corpus.hash
        order = np.random.default_rng(seed).permutation(len(corpus.texts))
        test = int(len(order) * TEST)
        self.test, self.validation = order[:test], order[test : test + VALIDATION]
        self.pool = np.sort(order[test + VALIDATION :])
        vectoriser = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        vectoriser.fit([corpus.texts[i] for i in self.pool])
        self.features = vectoriser.transform(corpus.texts).tocsr()
        self.clean, self.category = corpus.clean, corpus.category
        config = PoolConfig(noise=NOISE)
        self.noisy = pool_from_clean(corpus.clean[self.pool], corpus.category, config, seed).noisy

    def curve(
        self, policy: str, sizes: Sequence[int], *, noisy: bool
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """Annotate by `policy` up to each size, train, and score on the test EMRs."""
        unsure = np.zeros(self.pool.size)
        chosen: Rows = np.zeros(0, np.int64)
        sampler = CoverageSampler(self.noisy, QUOTA, category=self.category, seed=self.seed)
        for before, size in pairwise((0, *(s for s in sizes if s <= self.pool.size))):
            rows = self._next(policy, sampler, chosen, size - before, unsure)
            sampler.update(rows, self.clean[self.pool[rows]])
            chosen = np.concatenate([chosen, rows])
            probs = self._probabilities(chosen, noisy=noisy)
            at_pool = np.clip(probs[self.pool], 1e-9, 1 - 1e-9)
            unsure = -(at_pool * np.log(at_pool) + (1 - at_pool) * np.log(1 - at_pool)).mean(axis=1)
            yield size, self._scores(probs)

    def _next(
        self, policy: str, sampler: CoverageSampler, chosen: Rows, count: int, unsure: Floats
    ) -> Rows:
        rng = np.random.default_rng((self.seed, chosen.size))
        free = np.setdiff1d(np.arange(self.pool.size), chosen)
        if policy == "coverage":
            rows = sampler.query(count).rows
            rest = rng.permutation(np.setdiff1d(free, rows))
            return np.concatenate([rows, rest[: count - rows.size]])
        shuffled = rng.permutation(free)
        if policy == "uncertainty":
            shuffled = shuffled[np.argsort(-unsure[shuffled], kind="stable")]
        return shuffled[:count]

    def _probabilities(self, chosen: Rows, *, noisy: bool) -> Floats:
        """(N, K) after training on the chosen EMRs; a code seen less than twice has 0."""
        known = self.clean[self.pool].toarray() > 0
        targets, rows = known[chosen], self.pool[chosen]
        if noisy:
            targets, rows = self.noisy.toarray() > 0, self.pool
            targets[chosen] = known[chosen]
        x_train = self.features[rows]
        probs = np.zeros((self.features.shape[0], targets.shape[1]))
        for k in np.flatnonzero((targets.sum(axis=0) >= 2) & ~targets.all(axis=0)):
            model = LogisticRegression(
                C=10.0, solver="liblinear", dual=True, tol=0.1, random_state=0
            )
            probs[:, k] = model.fit(x_train, targets[:, k]).predict_proba(self.features)[:, 1]
        return probs

    def _scores(self, probs: Floats) -> dict[str, float]:
        truth = self.clean[self.validation].toarray() > 0
        found = [_f1(truth, probs[self.validation] >= t, "micro") for t in THRESHOLDS]
        predicted = probs[self.test] >= THRESHOLDS[int(np.argmax(found))]
        gold = self.clean[self.test].toarray() > 0
        return {f"{mean}_f1": round(_f1(gold, predicted, mean), 4) for mean in ("micro", "macro")}


def _f1(truth: NDArray[np.bool_], predicted: NDArray[np.bool_], average: str) -> float:
    return float(f1_score(truth, predicted, average=average, zero_division=0))


def _simulated(seed: int) -> Corpus:
    hospital = Hospital(load_pack("en"), profile="hph", codes=TOP, seed=seed)
    records = list(hospital.emrs(N_SIMULATED))
    texts = [record.emr.long_text for record in records]
    return _corpus(SIMULATED, texts, [record.gold.codes for record in records])


def _codiesp(name: str, folder: Path, language: Language, *, chapters: bool) -> Corpus:
    emrs, codings = read_cases(folder, language)
    if chapters:
        taxonomy = Taxonomy.icd10cm()
        codes = [[taxonomy.chapter(c) for c in one.codes if c in taxonomy] for one in codings]
    else:
        kept = set(frequent_codes(codings, TOP))
        codes = [[code for code in one.codes if code in kept] for one in codings]
    return _corpus(name, [emr.long_text for emr in emrs], codes)


def _corpus(name: str, texts: list[str], codes: Sequence[Sequence[str]]) -> Corpus:
    names = sorted({code for case in codes for code in case})
    number = {code: i for i, code in enumerate(names)}
    clean = code_matrix([[number[code] for code in set(case)] for case in codes], len(names))
    _, category = np.unique([name.split(".")[0] for name in names], return_inverse=True)
    return Corpus(name, texts, clean, category)


def _goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Area under coverage's curve over the area under another policy's, median of the trials."""
    return [
        goal(f"{score}_area_to_{other}", ">= 1", float(np.median(_ratios(rows, score, other))))
        for score, other in product(("micro_f1", "macro_f1"), POLICIES[:-1])
    ]


def _ratios(rows: list[dict[str, Any]], score: str, other: str) -> list[float]:
    areas = Counter[tuple[Any, ...]]()
    for row in rows:
        areas[row["data"], row["learns_from"], row["seed"], row["policy"]] += row[score]
    return [
        area / max(areas[*trial, other], 1e-9)
        for (*trial, policy), area in areas.items()
        if policy == "coverage"
    ]


@dataclass(frozen=True)
class Figure:
    """The curves, one panel per corpus and score."""

    rows: list[dict[str, Any]]

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG, by the ending."""
        from matplotlib.figure import Figure as Canvas  # slow to import

        data = list(dict.fromkeys(row["data"] for row in self.rows))
        scores = ("micro_f1", "macro_f1")
        canvas = Canvas(figsize=(4 * len(data), 7), layout="constrained")
        axes = canvas.subplots(2, len(data), squeeze=False, sharex="col")
        for (i, score), (j, name) in product(enumerate(scores), enumerate(data)):
            axis = axes[i][j]
            self._panel(axis, name, score)
            axis.set(title=name if not i else "", xlabel="EMRs annotated" if i else "")
            axis.grid(alpha=0.3)
            if not j:
                axis.set_ylabel(score.replace("_f1", "-F1"))
        handles, labels = axes[0][0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=3)
        canvas.savefig(path, dpi=110)

    def _panel(self, axis: Any, data: str, score: str) -> None:
        colours = dict(zip(POLICIES, ("#7f7f7f", "#d9822b", "#1f6fb4"), strict=True))
        for policy, learns_from in product(POLICIES, LEARNS_FROM):
            kind = (data, learns_from, policy)
            mine = [r for r in self.rows if (r["data"], r["learns_from"], r["policy"]) == kind]
            sizes = sorted({row["annotated"] for row in mine})
            values = [[r[score] for r in mine if r["annotated"] == size] for size in sizes]
            label = policy if learns_from == "clean" else f"{policy}, with noisy codes"
            line = "--" if learns_from == "clean" else "-"
            axis.plot(sizes, np.median(values, axis=1), line, color=colours[policy], label=label)
            low, high = np.min(values, axis=1), np.max(values, axis=1)
            axis.fill_between(sizes, low, high, color=colours[policy], alpha=0.08)
