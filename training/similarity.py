"""Diagnosis names to codes, with calibrated confidence (paper eq. 1).

A name goes to the code whose official names and user synonyms it resembles most: by a
SimCSE-trained layer over the frozen encoder, by characters, and by what stands above the code in
the tree; a ranker weighs them and may answer "no code". Short forms are read as the pool writes
them out. What a coder has confirmed makes the ranker better (`refine`).

Shapes: N names to map, K codes, C codes kept per name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from label_config.errors import CheckpointError, ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.abbreviations import Abbreviations
from training.candidate_names import CandidateNames, NameEncoder
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.fold import fold_name
from training.name_calibration import hold_out
from training.name_features import CodeTraits
from training.name_ranker import Ranker
from training.name_training import drawn, fit_ranker, learn_prior, train_names
from training.names import names_by_code
from training.simcse import SimCSEConfig

KIND = "names"
_PRIOR_NAMES = 2000
"""Names of the pool that show how common each code is."""
_FEWEST_CONFIRMED = 30


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
        candidates: CandidateNames,
        config: SimilarityConfig,
        ranker: Ranker,
        *,
        pool: Sequence[str] = (),
    ) -> None:
        """Use `fit` or `load`. `pool` are folded names that show how common each code is."""
        self.codes, self.candidates = tuple(codes), candidates
        self.config, self.ranker = config, ranker
        self._pool = pool
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
        owners_M = np.array([k for _, k in pairs], dtype=np.int64)
        traits = CodeTraits.of(codes, taxonomy)
        candidates = CandidateNames([name for name, _ in pairs], owners_M, encoder, traits)
        candidates.abbreviations = Abbreviations.learn(names, candidates.names)
        held_out = hold_out(candidates.names, owners_M, taxonomy, codes, seed=config.seed)
        pool = list(dict.fromkeys(filter(None, (fold_name(name) for name in names))))
        pool = drawn(pool, config.max_pool_names, config.seed)
        ranker = train_names(candidates, pool, held_out, simcse=config.simcse, seed=config.seed)
        pool = drawn(pool, _PRIOR_NAMES, config.seed)
        learn_prior(candidates, ranker, pool)
        return cls(codes, candidates, config, ranker, pool=pool)

    def refine(self, names: Sequence[str], right: Sequence[Collection[str]]) -> None:
        """Weigh and calibrate by names that a coder has confirmed; needs 30 to change anything.

        `right` holds the codes that each name may have, none where no code fits.
        """
        rows = [i for i, name in enumerate(names) if fold_name(name)]
        if len(rows) < _FEWEST_CONFIRMED:
            return
        keys, answers = [fold_name(names[i]) for i in rows], [right[i] for i in rows]
        self.ranker = fit_ranker(self.candidates, self.codes, keys, answers)
        if self._pool:
            learn_prior(self.candidates, self.ranker, self._pool)
            # calibrated to the codes' new frequencies
            self.ranker = fit_ranker(self.candidates, self.codes, keys, answers)
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

    def _match(self, keys: Sequence[str]) -> list[NameMatch]:
        if not keys:
            return []
        found = self.candidates.shortlist(keys)
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

    # -- keeping ------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write config.json and the layer as safetensors; of the encoder its checksum."""
        settings = {
            "encoder": self.candidates.encoder.checksum,
            "codes": list(self.codes),
            **self.candidates.settings(),
            "ranker": self.ranker.to_dict(),
            "config": asdict(self.config),
        }
        arrays = self.candidates.arrays()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        save_checkpoint(
            folder,
            kind=KIND,
            config=settings,
            write=lambda to: save_tensors(to / "layer.safetensors", tensors),
        )

    @classmethod
    def load(cls, folder: Path, encoder: NameEncoder) -> NameMapper:
        """Read what `save` wrote; a folder of an older version, which names no encoder, as well.

        Raises CheckpointError for a missing, damaged or foreign folder, or another encoder.
        """
        settings = open_checkpoint(folder, kind=KIND)
        wanted = settings.get("encoder", encoder.checksum)
        if wanted != encoder.checksum:
            raise CheckpointError(
                f"{folder} was made with another encoder ({str(wanted)[:12]}..., now "
                f"{encoder.checksum[:12]}...): run `clinicoco auto-label` again"
            )
        arrays = {n: t.numpy() for n, t in load_tensors(folder / "layer.safetensors").items()}
        try:
            values = dict(settings["config"])
            config = SimilarityConfig(**{**values, "simcse": SimCSEConfig(**values["simcse"])})
            candidates = CandidateNames.of(settings, arrays, encoder)
            return cls(settings["codes"], candidates, config, Ranker.from_dict(settings["ranker"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from None
