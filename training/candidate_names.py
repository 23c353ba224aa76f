"""The official names of a code set, and how near a diagnosis name comes to each of them.

Shapes: N names to map, M candidate names, U titles above the codes, K codes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from training.abbreviations import Abbreviations
from training.fold import fold_name
from training.name_features import Characters, CodeTraits, Shortlist, shortlist
from training.simcse import apply_layer

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
SHORTLIST = 50
"""Codes per name that the ranker looks at."""
_CELLS_AT_ONCE = 4_000_000


class NameEncoder(Protocol):
    """What names need of an encoder: rows of length 1, shape (N, D)."""

    @property
    def checksum(self) -> str:
        """Names its weights; asked where a mapper is kept."""

    def embed(self, texts: Sequence[str], /) -> Floats:
        """Return float32 of shape (N, D)."""


class CandidateNames:
    """Compares names with those of the codes; a SimCSE layer and short forms are set later."""

    def __init__(
        self,
        names: Sequence[str],
        owners_M: Integers,
        encoder: NameEncoder,
        traits: CodeTraits,
        *,
        raw_MD: Floats | None = None,
    ) -> None:
        """`owners_M` are the names' codes, as an index that never falls.

        `raw_MD` are the names' embeddings, where they are known already.
        """
        self.names, self.owners_M, self.traits = tuple(names), owners_M, traits
        self.encoder = encoder
        self._keys = [fold_name(name) for name in names]
        self.characters = Characters(self._keys)
        self._upper_names = list(dict.fromkeys(traits.upper))
        self._upper_U = np.array([self._upper_names.index(t) for t in traits.upper], dtype=np.int64)
        self._raw_upper: Floats | None = None
        self.raw_MD = encoder.embed(self._keys) if raw_MD is None else raw_MD
        self.tune(np.zeros((self.raw_MD.shape[1],) * 2, dtype=np.float32), 0.0)
        self.abbreviations = Abbreviations()
        self.log_prior_K: npt.NDArray[np.float64] = np.zeros(len(traits.kinds_K3))
        """How common each code is; 0 for an average one."""

    def tune(self, layer_DD: Floats, strength: float) -> None:
        """Compare by this SimCSE layer; `strength` (0 to 1) is how much of it counts."""
        self.layer_DD, self.strength = layer_DD, strength
        self.__dict__.pop("_tuned", None)

    @cached_property
    def _tuned(self) -> Floats:
        """The names' embeddings after the layer: slow for a large code set."""
        return apply_layer(self.raw_MD, self.layer_DD, self.strength)

    def shortlist(self, keys: Sequence[str]) -> Shortlist:
        """The nearest codes of folded names, some at a time to bound the memory."""
        step = max(16, _CELLS_AT_ONCE // max(1, len(self._keys)))
        parts = []
        for start in range(0, len(keys), step):
            readings = [self.abbreviations.readings(key) for key in keys[start : start + step]]
            flat = [reading for several in readings for reading in several]
            first = np.cumsum([0, *map(len, readings[:-1])])
            raw_ND = self.encoder.embed(flat)
            tuned_NM = apply_layer(raw_ND, self.layer_DD, self.strength) @ self._tuned.T
            parts.append(
                shortlist(
                    np.maximum.reduceat(raw_ND @ self.raw_MD.T, first, axis=0),
                    np.maximum.reduceat(tuned_NM, first, axis=0),
                    np.maximum.reduceat(self.characters.similarity(flat), first, axis=0),
                    np.maximum.reduceat(self.upper_cosines(raw_ND), first, axis=0),
                    self.owners_M,
                    self.traits,
                    self.log_prior_K,
                    size=SHORTLIST,
                )
            )
        return Shortlist(
            np.concatenate([part.codes_NC for part in parts]),
            np.concatenate([part.features_NCF for part in parts]),
        )

    def upper_cosines(self, raw_ND: Floats) -> Floats:
        """Cosine of embeddings with every title above the codes, shape (N, U)."""
        return np.asarray((raw_ND @ self._upper_embeddings().T)[:, self._upper_U])

    def settings(self) -> dict[str, Any]:
        """What is kept as JSON."""
        return {
            "names": list(self.names),
            "owners": self.owners_M.tolist(),
            "upper": list(self._upper_names),
            "abbreviations": {k: list(v) for k, v in self.abbreviations.table.items()},
            "strength": self.strength,
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is kept as tensors."""
        return {
            "layer_DD": self.layer_DD,
            "raw_MD": self.raw_MD,
            "raw_upper_D": self._upper_embeddings(),
            "upper": self._upper_U,
            "upper_owners": self.traits.upper_owners,
            "kinds_K3": self.traits.kinds_K3,
            "log_prior_K": self.log_prior_K,
        }

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        encoder: NameEncoder,
    ) -> CandidateNames:
        """What was kept. Raises KeyError, TypeError or ValueError if something does not fit."""
        upper = tuple(settings["upper"][u] for u in arrays["upper"].tolist())
        traits = CodeTraits(upper, arrays["upper_owners"], arrays["kinds_K3"])
        owners_M = np.array(settings["owners"], dtype=np.int64)
        kept = cls(settings["names"], owners_M, encoder, traits, raw_MD=arrays["raw_MD"])
        kept.tune(arrays["layer_DD"], settings["strength"])
        kept.log_prior_K, kept._raw_upper = arrays["log_prior_K"], arrays["raw_upper_D"]
        kept.abbreviations = Abbreviations(settings["abbreviations"])
        return kept

    def _upper_embeddings(self) -> Floats:
        """The titles above the codes, encoded when first needed."""
        if self._raw_upper is None:
            self._raw_upper = self.encoder.embed(self._upper_names)
        return self._raw_upper
