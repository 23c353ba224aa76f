"""Diagnosis names to codes, with calibrated confidence (paper eq. 1).

A name goes to the code whose official name, variant or user synonym is most similar. Similarity
blends a SimCSE-trained layer over the frozen encoder with character TF-IDF; how much each counts
is chosen on names held out from their own code, so characters decide alone where the encoder does
not speak the script.

Shapes: N names to map, M candidate names, K codes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from label_config.errors import ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.fold import fold_name
from training.name_calibration import Calibrator, HeldOut, hold_out
from training.names import names_by_code
from training.simcse import SimCSEConfig, apply_layer, train_layer

Floats = npt.NDArray[np.float32]
KIND = "names"
_BLENDS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_STRENGTHS = (0.0, 0.5, 1.0)
_ROWS_AT_ONCE = 1024


class NameEncoder(Protocol):
    """What the mapper needs of an encoder: rows of length 1, shape (N, D)."""

    def embed(self, texts: Sequence[str], /) -> Floats:
        """Return float32 of shape (N, D)."""


@dataclass(frozen=True, slots=True)
class SimilarityConfig:
    """How names are compared."""

    simcse: SimCSEConfig = field(default_factory=SimCSEConfig)
    candidates: int = 5
    """How many codes are kept per name."""
    no_code_below: float = 0.2
    """A name whose best code is less sure than this gets no code."""
    trusted_code: float = 0.8
    """Confidence of a code that the hospital's own system attached to a name."""
    max_pool_names: int = 20_000
    """Names of the pool that SimCSE trains on, drawn at random beyond this many."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.max_pool_names < 0:
            raise ConfigError(
                "the name mapper needed candidates >= 1 and max_pool_names >= 0, "
                f"got {self.candidates} and {self.max_pool_names}"
            )
        for name in ("no_code_below", "trusted_code"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} needed a value in 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class NameMatch:
    """One name's code (None when nothing fits), and the runners-up with their confidence."""

    code: str | None
    confidence: float
    """0 to 1: how often such a match is right."""
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class _Top:
    codes: npt.NDArray[np.int64]
    """(N, C) indices into the mapper's codes, best first."""
    features: npt.NDArray[np.float64]
    """(N, C, 4): similarity, lead over the best other code, character similarity, same text."""


class NameMapper:
    """Maps diagnosis names to the codes of one project."""

    def __init__(
        self,
        codes: Sequence[str],
        names: Sequence[str],
        owners_M: npt.NDArray[np.int64],
        encoder: NameEncoder,
        config: SimilarityConfig,
        *,
        raw_MD: Floats | None = None,
    ) -> None:
        """Use `fit` or `load`. `names` are the M candidate names, `owners_M` their code's index.

        `raw_MD` are their embeddings, where they are known already.
        """
        self.codes, self.names, self.owners_M = tuple(codes), tuple(names), owners_M
        self.encoder, self.config = encoder, config
        self._keys = [fold_name(name) for name in names]
        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32
        ).fit(self._keys)
        self._chars = csr_matrix(self._vectorizer.transform(self._keys))
        self._raw_MD = encoder.embed(self._keys) if raw_MD is None else raw_MD
        self._layer_DD: Floats = np.zeros((self._raw_MD.shape[1],) * 2, dtype=np.float32)
        self._strength, self.blend = 0.0, 0.5
        """Share of the encoder in the blend, 0 to 1; the rest is characters."""
        self.calibrator = Calibrator()
        self._known: dict[str, NameMatch] = {}

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        taxonomy: Taxonomy,
        codes: Sequence[str],
        encoder: NameEncoder,
        *,
        config: SimilarityConfig | None = None,
        synonyms: Mapping[str, Iterable[str]] | None = None,
    ) -> NameMapper:
        """Train on the pool's `names` and the official names of `codes`.

        `synonyms` maps a code to further names of it. Raises ConfigError without codes, or when no
        code has a name.
        """
        config = config or SimilarityConfig()
        table = names_by_code(taxonomy, codes, synonyms, initials=True)
        pairs = [(name, k) for k, code in enumerate(codes) for name in table[code]]
        if not pairs:
            raise ConfigError(f"the name mapper needed at least one named code, got {len(codes)}")
        owners = np.array([k for _, k in pairs], dtype=np.int64)
        mapper = cls(codes, [name for name, _ in pairs], owners, encoder, config)
        mapper._train(names, hold_out(mapper.names, owners, taxonomy, codes, seed=config.seed))
        return mapper

    def map(self, names: Sequence[str]) -> list[NameMatch]:
        """The best code per name; equal names are looked up once."""
        keys = [fold_name(name) for name in names]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        for start in range(0, len(new), _ROWS_AT_ONCE):
            part = new[start : start + _ROWS_AT_ONCE]
            self._known.update(zip(part, self._match(part), strict=True))
        return [self._known[key] for key in keys]

    def auto_label(self, emrs: Sequence[EMR]) -> list[Coding]:
        """Noisy codes from the diagnosis names, in the names' order, one confidence per code.

        A code that the hospital's system attached to a name counts with `trusted_code`.
        """
        matches = iter(self.map([d.name for emr in emrs for d in emr.diagnoses]))
        codings = []
        for emr in emrs:
            found: dict[str, float] = {}
            for diagnosis in emr.diagnoses:
                match = next(matches)
                code, confidence = match.code, match.confidence
                if diagnosis.code in self.codes:
                    sure = dict(match.candidates).get(diagnosis.code, 0.0)
                    code, confidence = diagnosis.code, max(sure, self.config.trusted_code)
                if code is not None:
                    found[code] = max(found.get(code, 0.0), confidence)
            codings.append(Coding(emr.emr_id, tuple(found), "noisy", tuple(found.values())))
        return codings

    def scores(self, emrs: Sequence[EMR]) -> npt.NDArray[np.float64]:
        """Confidence per EMR and code, shape (N, K), runners-up too; NaN rows for EMRs that name
        no diagnosis.
        """
        index = {code: k for k, code in enumerate(self.codes)}
        matches = iter(self.map([d.name for emr in emrs for d in emr.diagnoses]))
        scores_NK = np.zeros((len(emrs), len(self.codes)))
        for n, emr in enumerate(emrs):
            if not emr.diagnoses:
                scores_NK[n] = np.nan
            for diagnosis in emr.diagnoses:
                said = dict(next(matches).candidates)
                if diagnosis.code in index:
                    sure = said.get(diagnosis.code, 0.0)
                    said[diagnosis.code] = max(sure, self.config.trusted_code)
                for code, confidence in said.items():
                    scores_NK[n, index[code]] = max(scores_NK[n, index[code]], confidence)
        return scores_NK

    # -- keeping ------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write config.json and the layer as safetensors; the encoder stays where it is."""
        settings = {
            "codes": list(self.codes),
            "names": list(self.names),
            "owners": self.owners_M.tolist(),
            "strength": self._strength,
            "blend": self.blend,
            "calibrator": self.calibrator.to_dict(),
            "config": asdict(self.config),
        }
        tensors = {
            "layer_DD": torch.from_numpy(self._layer_DD),
            "raw_MD": torch.from_numpy(self._raw_MD),
        }
        save_checkpoint(
            folder,
            kind=KIND,
            config=settings,
            write=lambda to: save_tensors(to / "layer.safetensors", tensors),
        )

    @classmethod
    def load(cls, folder: Path, encoder: NameEncoder) -> NameMapper:
        """Read what `save` wrote. Raises CheckpointError for a missing or foreign folder."""
        settings = open_checkpoint(folder, kind=KIND)
        values = dict(settings["config"])
        config = SimilarityConfig(**{**values, "simcse": SimCSEConfig(**values["simcse"])})
        owners = np.array(settings["owners"], dtype=np.int64)
        tensors = {n: t.numpy() for n, t in load_tensors(folder / "layer.safetensors").items()}
        mapper = cls(
            settings["codes"],
            settings["names"],
            owners,
            encoder,
            config,
            raw_MD=tensors["raw_MD"],
        )
        mapper._layer_DD = tensors["layer_DD"]
        mapper._strength, mapper.blend = settings["strength"], settings["blend"]
        mapper.calibrator = Calibrator.from_dict(settings["calibrator"])
        return mapper

    # -- training -----------------------------------------------------------------------------

    def _train(self, pool: Sequence[str], held_out: HeldOut) -> None:
        """Choose blend and strength by two-fold crossing over codes, calibrate, train on all."""
        pool_keys = list(dict.fromkeys(filter(None, (fold_name(name) for name in pool))))
        if len(pool_keys) > self.config.max_pool_names:
            rng = np.random.default_rng(self.config.seed)
            chosen = rng.choice(len(pool_keys), self.config.max_pool_names, replace=False)
            pool_keys = [pool_keys[i] for i in sorted(chosen)]
        pool_ND = self.encoder.embed(pool_keys) if pool_keys else self._raw_MD[:0]
        queries_ND = self.encoder.embed([fold_name(q) for q in held_out.queries])
        chars_QM = self._chars_similarity([fold_name(q) for q in held_out.queries])
        layers = [self._layer(pool_ND, held_out.code_folds != fold) for fold in (0, 1)]
        similarities = {}
        for strength in _STRENGTHS:
            encoded_QM = np.empty_like(chars_QM)
            for fold, layer in enumerate(layers):
                rows = held_out.query_folds == fold
                moved = apply_layer(queries_ND[rows], layer, strength)
                encoded_QM[rows] = moved @ apply_layer(self._raw_MD, layer, strength).T
            for blend in _BLENDS:
                similarities[strength, blend] = blend * encoded_QM + (1 - blend) * chars_QM
        self._strength, self.blend = held_out.best(similarities, self.owners_M)
        similarity_QM = held_out.mask(similarities[self._strength, self.blend])
        top = self._top(similarity_QM, held_out.mask(chars_QM))
        self.calibrator = Calibrator.fit(top.features, held_out.right(top.codes))
        self._layer_DD = self._layer(pool_ND, np.ones(len(self.codes), dtype=bool))

    def _layer(self, pool_ND: Floats, trained_K: npt.NDArray[np.bool_]) -> Floats:
        """SimCSE over the pool's names and the names of the codes in `trained_K`."""
        own = np.flatnonzero(trained_K[self.owners_M])
        embeddings = np.concatenate([self._raw_MD[own], pool_ND])
        groups = [*self.owners_M[own].tolist(), *([-1] * len(pool_ND))]
        by_code: dict[int, list[int]] = {}
        for row, owner in enumerate(self.owners_M[own].tolist()):
            by_code.setdefault(owner, []).append(row)
        pairs = [(i, i) for i in range(len(embeddings))]
        pairs += [(i, j) for rows in by_code.values() for i in rows for j in rows[:8] if i != j]
        return train_layer(
            embeddings, pairs, groups, config=self.config.simcse, seed=self.config.seed
        )

    # -- comparing ----------------------------------------------------------------------------

    def _match(self, keys: Sequence[str]) -> list[NameMatch]:
        chars_NM = self._chars_similarity(keys)
        similarity_NM: Floats = np.float32(1 - self.blend) * chars_NM
        if self.blend > 0:
            moved_ND = apply_layer(self.encoder.embed(keys), self._layer_DD, self._strength)
            own_MD = apply_layer(self._raw_MD, self._layer_DD, self._strength)
            similarity_NM += self.blend * (moved_ND @ own_MD.T)
        top = self._top(similarity_NM, chars_NM)
        confidence_NC = self.calibrator.confidence(top.features)
        matches = []
        for key, codes_C, confidence_C in zip(keys, top.codes, confidence_NC, strict=True):
            falling_C = np.minimum.accumulate(confidence_C)
            ranked = [(self.codes[k], float(p)) for k, p in zip(codes_C, falling_C, strict=True)]
            best, confidence = ranked[0]
            sure = bool(key) and confidence >= self.config.no_code_below
            matches.append(NameMatch(best if sure else None, confidence, tuple(ranked)))
        return matches

    def _chars_similarity(self, keys: Sequence[str]) -> Floats:
        product = csr_matrix(self._vectorizer.transform(keys)) @ self._chars.T
        return np.asarray(product.toarray(), dtype=np.float32)

    def _top(self, similarity_NM: Floats, chars_NM: Floats) -> _Top:
        """The best C codes per row, and what the calibrator sees of each."""
        best_NK = np.full((len(similarity_NM), len(self.codes)), -1.0, dtype=np.float32)
        chars_NK = np.zeros_like(best_NK)
        for m, k in enumerate(self.owners_M):
            np.maximum(best_NK[:, k], similarity_NM[:, m], out=best_NK[:, k])
            np.maximum(chars_NK[:, k], chars_NM[:, m], out=chars_NK[:, k])
        C = min(self.config.candidates, len(self.codes))
        codes_NC = np.argsort(-best_NK, axis=1, kind="stable")[:, :C]
        score_NC = np.take_along_axis(best_NK, codes_NC, axis=1)
        rival_NC = np.repeat(score_NC[:, :1], C, axis=1)
        rival_NC[:, 0] = score_NC[:, 1] if C > 1 else 0.0
        chars_NC = np.take_along_axis(chars_NK, codes_NC, axis=1)
        features = np.stack(
            [score_NC, score_NC - rival_NC, chars_NC, chars_NC > 0.999], axis=-1, dtype=np.float64
        )
        return _Top(codes_NC, features)
