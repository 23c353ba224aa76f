"""The corpora whose codes are spoilt: a simulated hospital, and CodiEsp's cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from label_config.files import data_hash
from label_config.record import EMR, Coding
from simulator.experiments.cells import hash_of_all
from simulator.experiments.codiesp_data import Language, frequent_codes, read_cases
from simulator.hospital import Hospital
from simulator.knowledge import load_pack

SIMULATED, SIMULATED_EMRS = "simulated", 600
TRAINED = 0.7
"""Share of the EMRs that methods learn from."""
TOP = 50


@dataclass(frozen=True)
class Corpus:
    """Coded EMRs and the codes in question."""

    name: str
    emrs: list[EMR]
    codings: list[Coding]
    codes: tuple[str, ...]

    @cached_property
    def hash(self) -> str:
        """Of all EMRs and their codes."""
        return hash_of_all([data_hash(self.emrs), data_hash(self.codings)])

    def part(self, rows: Sequence[int]) -> tuple[list[EMR], list[Coding]]:
        """The EMRs and codings in `rows`."""
        return [self.emrs[i] for i in rows], [self.codings[i] for i in rows]


def simulated(seed: int) -> Corpus:
    """The stand-in hospital's free text: no evidence, and no diagnosis names to read them from."""
    hospital = Hospital(load_pack("en"), codes=TOP, seed=seed)
    emrs, codings = [], []
    for one in hospital.emrs(SIMULATED_EMRS):
        emrs.append(replace(one.emr, diagnoses=()))
        codings.append(replace(one.gold, evidence=()))
    return Corpus(SIMULATED, emrs, codings, tuple(hospital.codes))


def read(folder: Path, language: Language, top: int | None = TOP) -> Corpus:
    """CodiEsp's cases with their evidence, and its `top` codes, or all. Raises DataError."""
    emrs, codings = read_cases(folder, language)
    codes = tuple(sorted(frequent_codes(codings, top)))
    return Corpus(f"CodiEsp {language.upper()}", emrs, codings, codes)
