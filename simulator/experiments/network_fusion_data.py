"""The corpora that suggesters are compared on: a simulated hospital, and CodiEsp's cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from label_config.errors import DataError
from label_config.files import data_hash
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from simulator.experiments.cells import hash_of_all
from simulator.experiments.chosen import EVERYTHING, Chosen
from simulator.experiments.codiesp_data import SECTION, Language, frequent_codes, read_cases
from simulator.experiments.network_data import Ward, ward
from simulator.experiments.network_places import Place, Trials

QUICK_SIZES, FULL_SIZES = (40, 60, 80, 120), (800, 1_500, 400, 800)
"""Raw, noisy, clean and unseen EMRs of the simulated hospital."""
QUICK_CASES, QUICK_UNLABELLED = 210, 60
SIMULATED = "simulated, 50 codes"
TOP = 50
TEST = 1 / 3


@dataclass(frozen=True, slots=True)
class Gives:
    """What a corpus has beside clean codes."""

    name: str
    raw: bool
    noisy: bool
    evidence: bool


@dataclass(frozen=True, slots=True)
class Corpus:
    """EMRs to learn from, with noisy or clean codes or none, and EMRs to judge by."""

    name: str
    raw: list[EMR]
    emrs: list[EMR]
    noisy: list[Coding]
    clean: list[Coding]
    unseen: list[EMR]
    truth: list[Coding]
    codes: tuple[str, ...]
    taxonomy: Taxonomy

    def gives(self) -> Gives:
        """What there is to learn from."""
        evidence = any(coding.evidence for coding in self.clean)
        return Gives(self.name, bool(self.raw), bool(self.noisy), evidence)

    def all_emrs(self) -> list[EMR]:
        """Raw, coded and unseen."""
        return [*self.raw, *self.emrs, *self.unseen]

    def hash(self) -> str:
        """Of all EMRs and codings."""
        emrs = data_hash(self.all_emrs())
        return hash_of_all([emrs, data_hash([*self.noisy, *self.clean, *self.truth])])


def corpora(
    trials: Trials, cache: Path, seed: int, folder: Path | None, chosen: Chosen = EVERYTHING
) -> list[Place[Corpus]]:
    """The simulated hospital and, with a folder, English and (not if quick) Spanish cases."""
    places: dict[str, Callable[[], Place[Corpus]]] = {
        SIMULATED: partial(_simulated, trials, cache, seed)
    }
    languages: tuple[Language, ...] = ("en",) if trials.quick else ("en", "es")
    if folder is not None:
        for language in languages:
            places[_name(language)] = partial(_cases, trials, cache, seed, folder, language)
    return [place() for place in chosen.of_places(places).values()]


def _cases(
    trials: Trials, cache: Path, seed: int, folder: Path, language: Language
) -> Place[Corpus]:
    """Cases are read at once: their content tells which rows are their own."""
    corpus = codiesp(folder, language, trials.quick, seed)
    return trials.place(corpus.name, cache, lambda: corpus, seed, corpus.hash())


def _simulated(trials: Trials, cache: Path, seed: int) -> Place[Corpus]:
    sizes = QUICK_SIZES if trials.quick else FULL_SIZES
    return trials.place(SIMULATED, cache, partial(_drawn, trials, sizes, seed), seed, sizes)


def _drawn(trials: Trials, sizes: tuple[int, int, int, int], seed: int) -> Corpus:
    drawn: Ward = ward(sizes, trials.encoder, seed=seed)
    return Corpus(
        SIMULATED,
        drawn.raw,
        [*drawn.noisy, *drawn.clean],
        drawn.noisy_codings,
        drawn.clean_codings,
        drawn.unseen,
        drawn.unseen_codings,
        drawn.codes,
        drawn.taxonomy,
    )


def codiesp(folder: Path, language: Language, quick: bool, seed: int) -> Corpus:
    """Cases in the order of a seed, with the most frequent codes and their evidence."""
    emrs, codings = read_cases(folder, language)
    taxonomy = Taxonomy.icd10cm()
    codes = [code for code in frequent_codes(codings) if code in taxonomy][:TOP]
    kept = [_only(codes, coding) for coding in codings]
    order = np.random.default_rng(seed).permutation(len(emrs))[: QUICK_CASES if quick else None]
    test, train = np.split(order, [round(TEST * len(order))])
    return Corpus(
        _name(language),
        _unlabelled(folder, language)[: QUICK_UNLABELLED if quick else None],
        [emrs[i] for i in train],
        [],
        [kept[i] for i in train],
        [emrs[i] for i in test],
        [kept[i] for i in test],
        tuple(codes),
        taxonomy,
    )


def _name(language: Language) -> str:
    return f"CodiEsp {language.upper()}, 50 codes"


def _only(codes: Sequence[str], coding: Coding) -> Coding:
    """The coding as far as it has these codes."""
    evidence = tuple(span for span in coding.evidence if span.code in codes)
    kept = tuple(code for code in coding.codes if code in codes)
    return replace(coding, codes=kept, evidence=evidence)


def _unlabelled(folder: Path, language: Language) -> list[EMR]:
    path = folder / f"codiesp_{language}_background_unlabelled.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:  # a text may hold other ends of lines
            cases = [json.loads(line) for line in lines]
        return [EMR(case["id"], {SECTION: case["text"]}) for case in cases]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} must hold cases with id and text") from None
