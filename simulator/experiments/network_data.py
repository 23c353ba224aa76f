"""The simulated hospital as the network's experiments see it: raw, noisy, clean and unseen EMRs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from label_config.files import data_hash
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.hospital import Hospital
from simulator.knowledge import Pack, load_pack
from simulator.phrase import Bank
from simulator.quality import PRESETS, NoiseRates, degrade
from training.encoder import Encoder
from training.similarity import NameMapper

CODES = 50
NOISE = "nhc2020"
"""Vague, wrong and missing names at the rates that the paper's hospital was found to have."""


@dataclass(frozen=True, slots=True)
class Site:
    """Which hospital the EMRs come from."""

    profile: Literal["hph", "aph"] = "hph"
    codes: int = CODES
    """How many of the most frequent codes; the pack's own number is its full code set."""
    bank: Bank = "A"
    """Whose wording."""
    rates: NoiseRates = PRESETS[NOISE]
    """How its diagnosis names are spoilt."""

    def __str__(self) -> str:
        wording = "" if self.bank == "A" else f", bank {self.bank}"
        return f"{self.profile}, {self.codes} codes{wording}"


HPH = Site()


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

    def all_emrs(self) -> list[EMR]:
        """Raw, noisy, clean and unseen."""
        return [*self.raw, *self.noisy, *self.clean, *self.unseen]

    def hash(self) -> str:
        """Of all EMRs."""
        return data_hash(self.all_emrs())


def targets(codings: Sequence[Coding], codes: Sequence[str]) -> NDArray[np.bool_]:
    """Which code each coding has, shape (N, K)."""
    return np.array([[code in c.codes for code in codes] for c in codings], dtype=bool)


@contextmanager
def feature_cache() -> Iterator[Path]:
    """The folder of the feature cache: CLINICOCO_FEATURE_CACHE, which is kept, or one for now.

    Experiments that draw the same EMRs then encode them once.
    """
    kept = os.environ.get("CLINICOCO_FEATURE_CACHE")
    if kept:
        yield Path(kept)
        return
    with TemporaryDirectory(prefix="clinicoco-") as folder:
        yield Path(folder)


def load_encoder() -> Encoder:
    """The default encoder, on a GPU where there is one; networks are trained where it is."""
    return Encoder.load(device="cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=1)
def knowledge() -> Pack:
    """The English pack, read once."""
    return load_pack("en")


@dataclass(frozen=True, slots=True)
class Pool:
    """EMRs that have noisy and gold codes both: whose gold codes are seen is still to be chosen."""

    emrs: list[EMR]
    noisy: list[Coding]
    gold: list[Coding]
    unseen: list[EMR]
    unseen_codings: list[Coding]
    codes: tuple[str, ...]
    taxonomy: Taxonomy

    def all_emrs(self) -> list[EMR]:
        """Those that may be chosen, then the unseen."""
        return [*self.emrs, *self.unseen]

    def hash(self) -> str:
        """Of all EMRs."""
        return data_hash(self.all_emrs())

    def ward(self, chosen: Sequence[int] | NDArray[np.int64]) -> Ward:
        """The chosen rows are clean, the others noisy; there are no raw EMRs."""
        clean = [int(row) for row in chosen]
        noisy = sorted(set(range(len(self.emrs))) - set(clean))
        return Ward(
            raw=[],
            noisy=[self.emrs[i] for i in noisy],
            noisy_codings=[self.noisy[i] for i in noisy],
            clean=[self.emrs[i] for i in clean],
            clean_codings=[replace(self.gold[i], source="clean") for i in clean],
            unseen=self.unseen,
            unseen_codings=self.unseen_codings,
            codes=self.codes,
            taxonomy=self.taxonomy,
        )


def ward(
    sizes: tuple[int, int, int, int], encoder: Encoder, *, seed: int, site: Site = HPH
) -> Ward:
    """Draw (raw, noisy, clean, unseen) EMRs of a hospital of its own per seed.

    Diagnosis names are degraded, then mapped to noisy codes by the same mapper that a project uses.
    """
    codes, emrs, gold = admissions(sum(sizes), seed=seed, site=site)
    raw, noisy, clean, unseen = np.split(np.arange(len(emrs)), np.cumsum(sizes)[:-1])
    noisy_emrs = [emrs[i] for i in noisy]
    return Ward(
        raw=[emrs[i] for i in raw],
        noisy=noisy_emrs,
        noisy_codings=auto_label(noisy_emrs, codes, encoder),
        clean=[emrs[i] for i in clean],
        clean_codings=[replace(gold[i], source="clean") for i in clean],
        unseen=[emrs[i] for i in unseen],
        unseen_codings=[gold[i] for i in unseen],
        codes=codes,
        taxonomy=knowledge().taxonomy,
    )


def pool(n_pool: int, n_unseen: int, encoder: Encoder, *, seed: int, site: Site = HPH) -> Pool:
    """Draw EMRs of a hospital of its own per seed, each with noisy and with gold codes."""
    codes, emrs, gold = admissions(n_pool + n_unseen, seed=seed, site=site)
    return Pool(
        emrs=emrs[:n_pool],
        noisy=auto_label(emrs[:n_pool], codes, encoder),
        gold=gold[:n_pool],
        unseen=emrs[n_pool:],
        unseen_codings=gold[n_pool:],
        codes=codes,
        taxonomy=knowledge().taxonomy,
    )


def admissions(
    n: int, *, seed: int, site: Site = HPH
) -> tuple[tuple[str, ...], list[EMR], list[Coding]]:
    """The site's codes, and EMRs with spoilt diagnosis names and their gold codes."""
    pack = knowledge()
    hospital = Hospital(pack, profile=site.profile, codes=site.codes, seed=seed, bank=site.bank)
    emrs, gold = [], []
    for simulated in hospital.emrs(n):
        worse, _ = degrade(
            simulated, site.rates, pack, seed=seed, codes=hospital.codes, bank=site.bank
        )
        emrs.append(worse)
        gold.append(simulated.gold)
    return tuple(hospital.codes), emrs, gold


def auto_label(emrs: Sequence[EMR], codes: Sequence[str], encoder: Encoder) -> list[Coding]:
    """Noisy codes from the diagnosis names, by a mapper that knows these names."""
    names = [d.name for emr in emrs for d in emr.diagnoses]
    if not names:
        return [Coding(emr.emr_id, (), "noisy") for emr in emrs]
    return NameMapper.fit(names, knowledge().taxonomy, codes, encoder).auto_label(emrs)
