"""The simulated hospital as the network's experiments see it: raw, noisy, clean and unseen EMRs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from label_config.files import data_hash
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.hospital import Hospital
from simulator.knowledge import Pack, load_pack
from simulator.quality import PRESETS, degrade
from training.encoder import Encoder
from training.similarity import NameMapper

CODES = 50
NOISE = "nhc2020"
"""Vague, wrong and missing names at the rates that the paper's hospital was found to have."""


@dataclass(frozen=True, slots=True)
class Ward:
    """What one seed's hospital gives: EMRs without codes, with noisy ones, with clean ones."""

    raw: list[EMR]
    noisy: list[EMR]
    noisy_codings: list[Coding]
    clean: list[EMR]
    clean_codings: list[Coding]
    unseen: list[EMR]
    unseen_codings: list[Coding]
    codes: tuple[str, ...]
    taxonomy: Taxonomy

    def truth(self) -> NDArray[np.bool_]:
        """The unseen EMRs' codes, shape (N, K)."""
        return targets(self.unseen_codings, self.codes)

    def hash(self) -> str:
        """Of all EMRs and codings."""
        return data_hash([*self.raw, *self.noisy, *self.clean, *self.unseen])


def targets(codings: Sequence[Coding], codes: Sequence[str]) -> NDArray[np.bool_]:
    """Which code each coding has, shape (N, K)."""
    return np.array([[code in c.codes for code in codes] for c in codings], dtype=bool)


@lru_cache(maxsize=1)
def knowledge() -> Pack:
    """The English pack, read once."""
    return load_pack("en")


def ward(
    sizes: tuple[int, int, int, int], encoder: Encoder, *, seed: int, codes: int = CODES
) -> Ward:
    """Draw (raw, noisy, clean, unseen) EMRs of a hospital of its own per seed.

    Diagnosis names are degraded, then mapped to noisy codes by the same mapper that a project uses.
    """
    pack = knowledge()
    hospital = Hospital(pack, profile="hph", codes=codes, seed=seed)
    emrs, gold = [], []
    for simulated in hospital.emrs(sum(sizes)):
        worse, _ = degrade(simulated, PRESETS[NOISE], pack, seed=seed, codes=hospital.codes)
        emrs.append(worse)
        gold.append(simulated.gold)
    raw, noisy, clean, unseen = np.split(np.arange(len(emrs)), np.cumsum(sizes)[:-1])
    names = [d.name for i in noisy for d in emrs[i].diagnoses]
    noisy_emrs = [emrs[i] for i in noisy]
    mapper = NameMapper.fit(names, pack.taxonomy, hospital.codes, encoder) if names else None
    return Ward(
        raw=[emrs[i] for i in raw],
        noisy=noisy_emrs,
        noisy_codings=mapper.auto_label(noisy_emrs) if mapper is not None else [],
        clean=[emrs[i] for i in clean],
        clean_codings=[replace(gold[i], source="clean") for i in clean],
        unseen=[emrs[i] for i in unseen],
        unseen_codings=[gold[i] for i in unseen],
        codes=tuple(hospital.codes),
        taxonomy=pack.taxonomy,
    )
