"""Codes that no training EMR has: what they are called, against what a record says.

    score(n, k) = max over sentences and own names of cover
                  + NEAR * max over sentences and near names of cover
    p(n, k)     = sigmoid(slope * score(n, k) + bias)
    suggested   = 1 - (1 - fused) * (1 - p)

Near are the category's names and what coders highlighted for other codes of it. Slope and bias make
`suggested` right on clean EMRs: to the EMRs of a fold, a code that no other fold has is as new as
the code that nobody has given yet. So they know how rare such codes are, and nothing leaks.

Shapes: N EMRs, K codes, U new codes, S sentences, M names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy.optimize import minimize

from label_config.errors import CheckpointError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.name_grams import NameGrams
from training.names import names_by_code
from training.out_of_fold import targets
from training.rows import read_rows, write_rows
from training.sentences import Sentence, sentences
from training.stems import stem_key

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
KIND = "described"
NEAR = 0.3
FEWEST = 10
"""Times that clean EMRs must have shown a new code before slope and bias can be learned."""
_SLOPE, _BIAS, _PULL = 8.0, -8.0, 0.05
"""Where they start, and the penalty on the distance of the slope."""
_STRONG, _GAP = 0.5, 2
"""Evidence: words with this share of the strongest word's, joined over a gap of one word."""


class Naming(NamedTuple):
    """A name of a new code, `own` or near."""

    name: str
    code: int
    own: bool


class Described:
    """Scores new codes by name. Use `fit_described` or `load`; `of` is not calibrated yet."""

    def __init__(
        self,
        codes: Sequence[str],
        namings: Sequence[Naming],
        *,
        grams: NameGrams,
        slope: float = _SLOPE,
        bias: float = _BIAS,
    ) -> None:
        """`namings` count into `codes`; `grams` holds their names, each once, in that order."""
        self.codes, self.namings, self.grams = tuple(codes), tuple(namings), grams
        self.slope, self.bias = slope, bias
        column = {name: m for m, name in enumerate(_distinct(namings))}
        self._own, self._near = (
            _columns([n for n in namings if n.own == own], column) for own in (True, False)
        )

    @classmethod
    def of(
        cls,
        codes: Sequence[str],
        emrs: Sequence[EMR],
        codings: Sequence[Coding],
        taxonomy: Taxonomy,
        synonyms: Mapping[str, Iterable[str]] | None = None,
    ) -> Described | None:
        """The names of `codes` that have one, and near names from `codings`, which belong to
        `emrs`; None without a name.
        """
        names = names_by_code(taxonomy, codes, synonyms)
        named = [code for code in codes if any(map(stem_key, names[code]))]
        if not named:
            return None
        namings = list(_namings(named, names, taxonomy, _highlights(emrs, codings, taxonomy)))
        read = [s.key for emr in emrs for s in sentences(emr)]
        return cls(named, namings, grams=NameGrams.fit(_distinct(namings), read))

    def scores(self, emrs: Sequence[EMR]) -> Floats:
        """How much of the names stands in some sentence, shape (N, U), 0 to 1 + NEAR."""
        scores_NU = np.zeros((len(emrs), len(self.codes)))
        for n, emr in enumerate(emrs):
            cover_SM = self.grams.cover([s.key for s in sentences(emr)])
            if not cover_SM.nnz:
                continue
            best_M = cover_SM.max(axis=0).toarray().ravel()
            for part, (names, owners) in ((1.0, self._own), (NEAR, self._near)):
                best_U = np.zeros(len(self.codes))
                np.maximum.at(best_U, owners, best_M[names])
                scores_NU[n] += part * best_U
        return scores_NU

    def probs(self, emrs: Sequence[EMR]) -> Floats:
        """The probability that the names alone give each code, shape (N, U)."""
        return _sigmoid(self.slope * self.scores(emrs) + self.bias)

    def evidence(self, emr: EMR, codes: Sequence[str]) -> list[EvidenceSpan]:
        """The words that each code's best name shares with its best sentence; own names only.

        `score` is the code's probability. Codes that are not new have none.
        """
        wanted = [self.codes.index(code) for code in codes if code in self.codes]
        read = list(sentences(emr))
        if not wanted or not read:
            return []
        cover_SM = self.grams.cover([s.key for s in read]).tocsc()
        probs_U, spans = self.probs([emr])[0], []
        for k in wanted:
            names, owners = self._own
            mine = names[owners == k]
            cover = cover_SM[:, mine].toarray()
            s, m = np.unravel_index(int(cover.argmax()), cover.shape)
            if cover[s, m] > 0:
                for start, end in self._words(read[s], int(mine[m])):
                    section, p = read[s].section, float(probs_U[k])
                    spans.append(EvidenceSpan(self.codes[k], section, start, end, p))
        return spans

    def save(self, folder: Path) -> None:
        """Write the names as Parquet, the grams' rarity as safetensors."""

        def write(to: Path) -> None:
            write_rows(to / "names.parquet", _NAMES, self.namings)
            save_tensors(
                to / "rarity.safetensors", {"rarity_G": torch.from_numpy(self.grams.rarity_G)}
            )

        config = {"codes": list(self.codes), "slope": self.slope, "bias": self.bias}
        save_checkpoint(folder, kind=KIND, config=config, write=write)

    @classmethod
    def load(cls, folder: Path) -> Described:
        """Read what `save` wrote. Raises CheckpointError for a missing or foreign folder."""
        settings = open_checkpoint(folder, kind=KIND)
        try:
            namings = [Naming(**row) for row in read_rows(folder / "names.parquet", _NAMES)]
            rarity_G = load_tensors(folder / "rarity.safetensors")["rarity_G"].numpy()
            return cls(
                settings["codes"],
                namings,
                grams=NameGrams(_distinct(namings), rarity_G),
                slope=settings["slope"],
                bias=settings["bias"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from None

    def _words(self, sentence: Sentence, name: int) -> list[tuple[int, int]]:
        """The places of the words that make the name, neighbours joined."""
        shares = self.grams.shares(sentence.stems, name)
        strong = sentence.first + np.flatnonzero(shares >= _STRONG * shares.max())
        runs = np.split(strong, np.flatnonzero(np.diff(strong) > _GAP) + 1)
        return [sentence.text.span(int(run[0]), int(run[-1])) for run in runs]


def fit_described(
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    folds_N: Ints,
    fused_NK: Floats,
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    noisy: Sequence[Coding] = (),
    synonyms: Mapping[str, Iterable[str]] | None = None,
) -> tuple[Described | None, Floats]:
    """Learn from clean EMRs and what the fusion says of them unseen.

    Returns:
        Scores for the codes that neither `codings` nor `noisy` have, None where there is no such
        code or too little to learn from; and what is suggested with it for the same EMRs, (N, K),
        each fold's new codes being those that no other fold has.
    """
    true_NK, given_K = targets(codings, codes), targets(noisy, codes).any(axis=0)
    new = [codes[k] for k in np.flatnonzero(~(given_K | true_NK.any(axis=0)))]
    described = Described.of(new, emrs, codings, taxonomy, synonyms)
    if described is None:
        return None, fused_NK
    column = {code: k for k, code in enumerate(codes)}
    scores_NK = np.full(true_NK.shape, np.nan)
    for fold in np.unique(folds_N):
        train, test = np.flatnonzero(folds_N != fold), np.flatnonzero(folds_N == fold)
        columns = np.flatnonzero(~(given_K | true_NK[train].any(axis=0)))
        others = [emrs[i] for i in train], [codings[i] for i in train]
        part = Described.of([codes[k] for k in columns], *others, taxonomy, synonyms)
        if part is not None:
            named = np.array([column[code] for code in part.codes])
            scores_NK[np.ix_(test, named)] = part.scores([emrs[i] for i in test])
    new_NK = np.isfinite(scores_NK)
    score, fused = scores_NK[new_NK], fused_NK[new_NK]
    if true_NK[new_NK].sum() < FEWEST:
        return None, fused_NK
    described.slope, described.bias = _calibrate(score, fused, true_NK[new_NK])
    suggested_NK = fused_NK.copy()
    p = _sigmoid(described.slope * score + described.bias)
    suggested_NK[new_NK] = join(fused, p)
    return described, suggested_NK


def join(fused: Floats, p: Floats) -> Floats:
    """The probability that either is right."""
    return np.asarray(1 - (1 - fused) * (1 - p))


def _calibrate(score: Floats, fused: Floats, true: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope (0 or more) and bias under which the joined probability is likeliest."""

    def loss(theta: Floats) -> tuple[float, Floats]:
        p = _sigmoid(theta[0] * score + theta[1])
        joined = np.maximum(join(fused, p), 1e-12)
        value = -np.where(true, np.log(joined), np.log1p(-p)).sum()
        slope = np.where(true, -(1 - fused) * p * (1 - p) / joined, p)
        pull = theta[0] - _SLOPE
        gradient = np.array([slope @ score + 2 * _PULL * pull, slope.sum()])
        return float(value + _PULL * pull**2), gradient

    found = minimize(
        loss, [_SLOPE, _BIAS], jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]
    )
    return float(found.x[0]), float(found.x[1])


def _highlights(
    emrs: Sequence[EMR], codings: Sequence[Coding], taxonomy: Taxonomy
) -> dict[str, dict[str, None]]:
    """Category -> what coders highlighted for its codes."""
    found: dict[str, dict[str, None]] = {}
    for emr, coding in zip(emrs, codings, strict=True):
        for span in coding.evidence:
            if span.code in taxonomy:
                text = emr.text_of(span.section)[span.start : span.end]
                found.setdefault(taxonomy.category(span.code), {})[text] = None
    return found


def _namings(
    codes: Sequence[str],
    names: Mapping[str, Sequence[str]],
    taxonomy: Taxonomy,
    highlights: Mapping[str, Iterable[str]],
) -> Iterable[Naming]:
    """Own names first, then near ones; those without a word are left out."""
    category = {code: taxonomy.category(code) for code in codes if code in taxonomy}
    above = names_by_code(taxonomy, dict.fromkeys(category.values()))
    for own in (True, False):
        for k, code in enumerate(codes):
            line = category.get(code, "")
            near = (*above.get(line, ()), *highlights.get(line, ()))
            keys = dict.fromkeys(map(stem_key, names[code] if own else near))
            yield from (Naming(key, k, own) for key in keys if key)


def _distinct(namings: Sequence[Naming]) -> list[str]:
    return list(dict.fromkeys(naming.name for naming in namings))


def _columns(namings: Sequence[Naming], column: Mapping[str, int]) -> tuple[Ints, Ints]:
    """The names' columns and their codes."""
    names = np.array([column[n.name] for n in namings], dtype=np.int64)
    return names, np.array([n.code for n in namings], dtype=np.int64)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


_NAMES = pa.schema([("name", pa.string()), ("code", pa.int64()), ("own", pa.bool_())])
