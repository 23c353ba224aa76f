"""Diagnosis names to codes, with calibrated confidence (paper eq. 1).

A name goes to the code whose official names and user synonyms it resembles most: by a
SimCSE-trained layer over the frozen encoder, by characters, and by what stands above the code in
the tree; a ranker weighs them and may answer "no code". Short forms are read as the pool writes
them out. What a coder has confirmed makes the ranker better (`refine`).

Shapes: N names to map, M candidate names, K codes, C codes kept per name, D dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from label_config.errors import CheckpointError, ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.abbreviations import Abbreviations
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.fold import fold_name
from training.name_calibration import HeldOut, hold_out
from training.name_features import Characters, CodeTraits, Shortlist, shortlist
from training.name_ranker import Ranker
from training.names import names_by_code
from training.simcse import SimCSEConfig, apply_layer, train_layer

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
KIND = "names"
_STRENGTHS = (0.0, 0.5, 1.0)
_SHORTLIST = 50
"""Codes per name that the ranker looks at."""
_CELLS_AT_ONCE = 4_000_000
_PRIOR_NAMES = 2000
"""Names of the pool that show how common each code is."""
_FEWEST_CONFIRMED, _CONFIRMED_PULL = 30, 0.1


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


class NameMapper:
    """Maps diagnosis names to the codes of one project."""

    def __init__(
        self,
        codes: Sequence[str],
        names: Sequence[str],
        owners_M: Integers,
        encoder: NameEncoder,
        config: SimilarityConfig,
        *,
        traits: CodeTraits,
        raw_MD: Floats | None = None,
    ) -> None:
        """Use `fit` or `load`. `names` are the M candidate names, `owners_M` their code's index,
        which never falls.

        `raw_MD` are their embeddings, where they are known already.
        """
        self.codes, self.names, self.owners_M = tuple(codes), tuple(names), owners_M
        self.encoder, self.config = encoder, config
        self._keys = [fold_name(name) for name in names]
        self._characters = Characters(self._keys)
        self._traits = traits
        titles = list(dict.fromkeys(traits.upper))
        self._upper_U = np.array([titles.index(t) for t in traits.upper], dtype=np.int64)
        self._upper_names = titles
        self._raw_MD = encoder.embed(self._keys) if raw_MD is None else raw_MD
        self._raw_upper: Floats | None = None
        self._layer_DD: Floats = np.zeros((self._raw_MD.shape[1],) * 2, dtype=np.float32)
        self.strength = 0.0
        """How much of the SimCSE layer counts, 0 to 1."""
        self.abbreviations = Abbreviations()
        self.ranker = Ranker()
        self._log_prior_K: npt.NDArray[np.float64] = np.zeros(len(self.codes))
        self._pool: list[str] = []
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
        table = names_by_code(taxonomy, codes, synonyms)
        pairs = [(name, k) for k, code in enumerate(codes) for name in table[code]]
        if not pairs:
            raise ConfigError(f"the name mapper needed at least one named code, got {len(codes)}")
        owners = np.array([k for _, k in pairs], dtype=np.int64)
        traits = CodeTraits.of(codes, taxonomy)
        mapper = cls(codes, [name for name, _ in pairs], owners, encoder, config, traits=traits)
        mapper._train(names, hold_out(mapper.names, owners, taxonomy, codes, seed=config.seed))
        return mapper

    def refine(self, names: Sequence[str], right: Sequence[Collection[str]]) -> None:
        """Weigh and calibrate by names that a coder has confirmed; needs 30 to change anything.

        `right` holds the codes that each name may have, none where no code fits.
        """
        rows = [i for i, name in enumerate(names) if fold_name(name)]
        if len(rows) < _FEWEST_CONFIRMED:
            return
        keys, answers = [fold_name(names[i]) for i in rows], [right[i] for i in rows]
        self._fit_ranker(keys, answers)
        if self._pool:
            self._learn_prior()
            self._fit_ranker(keys, answers)  # calibrated to the codes' new frequencies
        self._known = {}

    def map(self, names: Sequence[str]) -> list[NameMatch]:
        """The best code per name; equal names are looked up once."""
        keys = [fold_name(name) for name in names]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        self._known.update(zip(new, self._match(new), strict=True))
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
            "upper": list(self._upper_names),
            "abbreviations": {k: list(v) for k, v in self.abbreviations.table.items()},
            "strength": self.strength,
            "ranker": self.ranker.to_dict(),
            "config": asdict(self.config),
        }
        arrays = {
            "layer_DD": self._layer_DD,
            "raw_MD": self._raw_MD,
            "raw_upper_D": self._upper_embeddings(),
            "upper": self._upper_U,
            "upper_owners": self._traits.upper_owners,
            "kinds_K3": self._traits.kinds_K3,
            "log_prior_K": self._log_prior_K,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        save_checkpoint(
            folder,
            kind=KIND,
            config=settings,
            write=lambda to: save_tensors(to / "layer.safetensors", tensors),
        )

    @classmethod
    def load(cls, folder: Path, encoder: NameEncoder) -> NameMapper:
        """Read what `save` wrote. Raises CheckpointError for a missing, damaged or foreign
        folder.
        """
        settings = open_checkpoint(folder, kind=KIND)
        arrays = {n: t.numpy() for n, t in load_tensors(folder / "layer.safetensors").items()}
        try:
            values = dict(settings["config"])
            mapper = cls(
                settings["codes"],
                settings["names"],
                np.array(settings["owners"], dtype=np.int64),
                encoder,
                SimilarityConfig(**{**values, "simcse": SimCSEConfig(**values["simcse"])}),
                traits=CodeTraits(
                    tuple(settings["upper"][u] for u in arrays["upper"].tolist()),
                    arrays["upper_owners"],
                    arrays["kinds_K3"],
                ),
                raw_MD=arrays["raw_MD"],
            )
            mapper._layer_DD, mapper._raw_upper = arrays["layer_DD"], arrays["raw_upper_D"]
            mapper._log_prior_K = arrays["log_prior_K"]
            mapper.strength = settings["strength"]
            mapper.abbreviations = Abbreviations(settings["abbreviations"])
            mapper.ranker = Ranker.from_dict(settings["ranker"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from None
        return mapper

    # -- training -----------------------------------------------------------------------------

    def _train(self, pool: Sequence[str], held_out: HeldOut) -> None:
        """Choose the layer's strength and fit the ranker by two-fold crossing over codes; then
        train the layer on all.
        """
        self.abbreviations = Abbreviations.learn(pool, self.names)
        pool_keys = list(dict.fromkeys(filter(None, (fold_name(name) for name in pool))))
        pool_keys = self._drawn(pool_keys, self.config.max_pool_names)
        self._pool = self._drawn(pool_keys, _PRIOR_NAMES)
        pool_ND = self.encoder.embed(pool_keys) if pool_keys else self._raw_MD[:0]
        queries = [fold_name(q) for q in held_out.queries]
        queries_ND, characters_QM = (
            self.encoder.embed(queries),
            self._characters.similarity(queries),
        )
        layers = [self._layer(pool_ND, held_out.code_folds != fold) for fold in (0, 1)]
        encoded = {}
        for strength in _STRENGTHS:
            encoded[strength] = np.empty_like(characters_QM)
            for fold, layer in enumerate(layers):
                rows = held_out.query_folds == fold
                moved = apply_layer(queries_ND[rows], layer, strength)
                encoded[strength][rows] = moved @ apply_layer(self._raw_MD, layer, strength).T
        both = {s: encoded_QM + characters_QM for s, encoded_QM in encoded.items()}
        self.strength = held_out.best(both, self.owners_M)
        found = shortlist(
            queries_ND @ self._raw_MD.T,
            encoded[self.strength],
            characters_QM,
            (queries_ND @ self._upper_embeddings().T)[:, self._upper_U],
            self.owners_M,
            self._traits,
            self._log_prior_K,
            size=_SHORTLIST,
            hidden=held_out.hidden,
        )
        right_QC = held_out.right(found.codes_NC)
        usable = right_QC.any(axis=1) | (held_out.targets < 0)
        self.ranker = Ranker.fit(found.features_NCF[usable], right_QC[usable])
        self._layer_DD = self._layer(pool_ND, np.ones(len(self.codes), dtype=bool))
        self._learn_prior()

    def _drawn(self, names: list[str], most: int) -> list[str]:
        if len(names) <= most:
            return names
        chosen = np.random.default_rng(self.config.seed).choice(len(names), most, replace=False)
        return [names[i] for i in sorted(chosen)]

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

    def _fit_ranker(self, keys: Sequence[str], right: Sequence[Collection[str]]) -> None:
        """Learn from names whose codes are known, as far as they are on the short list."""
        found = self._shortlist(keys)
        right_NC = np.array(
            [
                [self.codes[k] in answer for k in codes]
                for answer, codes in zip(right, found.codes_NC, strict=True)
            ]
        )
        known = set(self.codes)
        outside = np.array([known.isdisjoint(answer) for answer in right])
        usable = right_NC.any(axis=1) | outside
        self.ranker = Ranker.fit(found.features_NCF[usable], right_NC[usable], pull=_CONFIRMED_PULL)

    def _learn_prior(self) -> None:
        """How common each code is, from the pool's names; unchanged where there is no pool."""
        if self._pool:
            found = self._shortlist(self._pool)
            self._log_prior_K = self.ranker.code_prior(
                found.features_NCF, found.codes_NC, len(self.codes)
            )

    # -- comparing ----------------------------------------------------------------------------

    def _match(self, keys: Sequence[str]) -> list[NameMatch]:
        if not keys:
            return []
        found = self._shortlist(keys)
        probs_NC = self.ranker.probs(found.features_NCF)[:, :-1]
        order_NC = np.argsort(-probs_NC, axis=1, kind="stable")[:, : self.config.candidates]
        matches = []
        for n, key in enumerate(keys):
            ranked = [
                (self.codes[found.codes_NC[n, c]], float(probs_NC[n, c])) for c in order_NC[n]
            ]
            best, confidence = ranked[0]
            sure = bool(key) and confidence >= self.config.no_code_below
            matches.append(NameMatch(best if sure else None, confidence, tuple(ranked)))
        return matches

    def _shortlist(self, keys: Sequence[str]) -> Shortlist:
        """The candidates of folded names, some at a time to bound the memory."""
        step = max(16, _CELLS_AT_ONCE // max(1, len(self._keys)))
        own_MD = apply_layer(self._raw_MD, self._layer_DD, self.strength)
        parts = []
        for start in range(0, len(keys), step):
            readings = [self.abbreviations.readings(key) for key in keys[start : start + step]]
            flat = [reading for several in readings for reading in several]
            first = np.cumsum([0, *map(len, readings[:-1])])
            raw_ND = self.encoder.embed(flat)
            tuned_NM = apply_layer(raw_ND, self._layer_DD, self.strength) @ own_MD.T
            upper_NU = (raw_ND @ self._upper_embeddings().T)[:, self._upper_U]
            parts.append(
                shortlist(
                    np.maximum.reduceat(raw_ND @ self._raw_MD.T, first, axis=0),
                    np.maximum.reduceat(tuned_NM, first, axis=0),
                    np.maximum.reduceat(self._characters.similarity(flat), first, axis=0),
                    np.maximum.reduceat(upper_NU, first, axis=0),
                    self.owners_M,
                    self._traits,
                    self._log_prior_K,
                    size=_SHORTLIST,
                )
            )
        return Shortlist(
            np.concatenate([part.codes_NC for part in parts]),
            np.concatenate([part.features_NCF for part in parts]),
        )

    def _upper_embeddings(self) -> Floats:
        """The titles above the codes, encoded when first needed."""
        if self._raw_upper is None:
            self._raw_upper = self.encoder.embed(self._upper_names)
        return self._raw_upper
