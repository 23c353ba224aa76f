"""Quality simulator: vague, wrong, missing and extra diagnosis names, each at its own rate.

    vague     an informal name of a true ancestor of the gold code
    wrong     a name of a true sibling: same parent, same level, not itself a gold code
    missing   the name is deleted
    extra     the name of an unrelated code of the code set is added

Neither of the first two is ever a name that the gold code has too. Rates are shares of the gold
codes. Every kind draws from its own seed, so that changing one rate leaves the others' draws alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from label_config.errors import ConfigError
from label_config.record import EMR, Diagnosis
from label_config.taxonomy import Taxonomy
from simulator.hospital import SimulatedEMR
from simulator.pack import Leaf, Pack
from simulator.phrase import Bank, pick

ErrorKind = Literal["vague", "wrong", "missing", "extra"]
KINDS: tuple[ErrorKind, ...] = ("vague", "wrong", "missing", "extra")
TRIES = 50
"""Draws for an unrelated code, before a code set counts as having none."""


@dataclass(frozen=True)
class NoiseRates:
    """How often each kind of error befalls a diagnosis name."""

    vague: float = 0.0
    """Share of gold codes entered under an upper level's informal name."""
    wrong: float = 0.0
    """Share entered under a sibling's name."""
    missing: float = 0.0
    """Share not entered at all."""
    extra: float = 0.0
    """Names of unrelated codes added, per gold code."""
    standard: float = 0.53
    """Share of the right names written as the standard title, the others informally."""

    def __post_init__(self) -> None:
        for key in (*KINDS, "standard"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"{key} must lie in 0 to 1, got {getattr(self, key)}")
        if self.vague + self.wrong + self.missing > 1.0:
            raise ConfigError(
                "vague, wrong and missing exclude each other and must sum to at most 1, got "
                f"{self.vague + self.wrong + self.missing:g}"
            )


PRESETS: dict[str, NoiseRates] = {
    "clean": NoiseRates(),
    "nhc2020": NoiseRates(vague=0.09, wrong=0.09, missing=0.12),
    "omits18": NoiseRates(missing=0.18),
    "adds15": NoiseRates(extra=0.15),
    "careless": NoiseRates(vague=0.15, wrong=0.10, missing=0.18, extra=0.15),
}
"""`nhc2020` spoils 30 % of the names; `omits18` and `adds15` are real coders' habits."""


@dataclass(frozen=True, slots=True)
class SpoiltName:
    """One error that was put into an EMR's diagnosis names."""

    emr_id: str
    position: int | None
    """Place among the degraded names, from 0; None for a missing one."""
    gold_code: str | None
    """The code whose name it should be; None for an extra one."""
    kind: ErrorKind
    name_code: str | None
    """The code that the name written really belongs to; None for a missing one."""


@dataclass(frozen=True)
class CodedName:
    """A diagnosis name as degraded, with the gold code behind it (None: extra)."""

    name: str
    gold_code: str | None
    kind: ErrorKind | None = field(default=None)
    name_code: str | None = field(default=None)


def degrade(
    simulated: SimulatedEMR,
    rates: NoiseRates,
    pack: Pack,
    taxonomy: Taxonomy | None = None,
    seed: int = 0,
    *,
    codes: Sequence[str] | None = None,
    bank: Bank = "A",
) -> tuple[EMR, list[SpoiltName]]:
    """The EMR with its diagnosis names degraded, and every error that was made.

    `codes` is the code set that extra names come from, by default all of the pack.
    """
    taxonomy = taxonomy or pack.taxonomy
    gold = simulated.gold
    writer = _NameWriter(pack, taxonomy, codes or pack.codes, rates, bank, gold.codes)
    draws = {kind: Random(f"{seed}/{kind}/{gold.emr_id}") for kind in KINDS if getattr(rates, kind)}
    words = Random(f"{seed}/words/{gold.emr_id}")
    coded: list[CodedName | None] = [
        writer.name(code, {kind: rng.random() for kind, rng in draws.items()}, words)
        for code in gold.codes
    ]
    if rates.extra:
        added = sum(draws["extra"].random() < rates.extra for _ in gold.codes)
        coded += [writer.unrelated(words) for _ in range(added)]
    return _assembled(simulated.emr, gold.codes, coded)


class _NameWriter:
    """Names the gold codes of one EMR rightly, vaguely or wrongly."""

    def __init__(
        self,
        pack: Pack,
        taxonomy: Taxonomy,
        codes: Sequence[str],
        rates: NoiseRates,
        bank: Bank,
        gold: Sequence[str],
    ) -> None:
        self.pack, self.taxonomy, self.rates, self.bank = pack, taxonomy, rates, bank
        self.codes = tuple(codes)
        self.gold = frozenset(gold)
        self._taken = {taxonomy.category(code) for code in gold}
        """Categories of the codes named, extra ones included."""

    def name(self, code: str, drawn: dict[ErrorKind, float], rng: Random) -> CodedName | None:
        """The entry for a gold code; None when it goes missing."""
        rates = self.rates
        if drawn.get("missing", 1.0) < rates.missing:
            return None
        if drawn.get("wrong", 1.0) < _share(rates.wrong, 1.0 - rates.missing):
            sibling = self._sibling(code, rng)
            if sibling is not None:
                return CodedName(self._wrong(code, sibling, rng), code, "wrong", sibling)
        elif drawn.get("vague", 1.0) < _share(rates.vague, 1.0 - rates.missing - rates.wrong):
            name, ancestor = self._vague(code, rng)
            return CodedName(name, code, "vague", ancestor)
        return CodedName(self._right(code, rng), code)

    def unrelated(self, rng: Random) -> CodedName | None:
        """A name of a code of a category not yet named; None when the set holds no such code."""
        for _ in range(TRIES):
            code = pick(self.codes, rng)
            category = self.taxonomy.category(code)
            if category not in self._taken:
                self._taken.add(category)
                return CodedName(self._right(code, rng), None, "extra", code)
        return None

    def _right(self, code: str, rng: Random) -> str:
        leaf = self.pack.by_code[code][1]
        if rng.random() < self.rates.standard:
            return leaf.title
        return self._informal(leaf, rng)

    def _informal(self, leaf: Leaf, rng: Random) -> str:
        """The shortest of five: whoever fills in a list is in a hurry."""
        drawn = [pick(leaf.names, rng).wording(self.bank, rng) for _ in range(5)]
        return min(drawn, key=len)

    def _sibling(self, code: str, rng: Random) -> str | None:
        """A sibling, most often one that the hospital uses too."""
        siblings = tuple(s for s in self.taxonomy.siblings(code) if s not in self.gold)
        own = tuple(s for s in siblings if s in self.codes)
        if own and rng.random() < 0.8:
            return pick(own, rng)
        return pick(siblings, rng) if siblings else None

    def _wrong(self, code: str, sibling: str, rng: Random) -> str:
        """One of the sibling's names that the code itself does not have."""
        if sibling in self.pack.by_code:
            name = self._right(sibling, rng)
        else:
            name = pick(self.taxonomy.names(sibling), rng)
        return self.taxonomy.title(sibling) if name.lower() in self._own_names(code) else name

    def _vague(self, code: str, rng: Random) -> tuple[str, str]:
        """An informal name of an ancestor, the nearer the likelier, and that ancestor."""
        vague, ancestors = self.pack.by_code[code][0].vague, self.taxonomy.ancestors(code)
        own = self._own_names(code)
        known = []
        for ancestor in ancestors:
            texts = (
                text for p in vague.get(ancestor, ()) for text in (p.a if self.bank == "A" else p.b)
            )
            names = tuple(text for text in texts if text.lower() not in own)
            if names:
                known.append((ancestor, names))
        if not known:
            return self.taxonomy.title(ancestors[0]), ancestors[0]
        nearest = 0 if rng.random() < 0.7 else int(rng.random() * len(known))
        ancestor, names = known[nearest]
        return pick(names, rng), ancestor

    def _own_names(self, code: str) -> frozenset[str]:
        """Every name of a code of the pack, in lower case."""
        leaf = self.pack.by_code[code][1]
        texts = (text for phrase in leaf.names for text in (*phrase.a, *phrase.b))
        return frozenset(text.lower() for text in (leaf.title, *texts))


def _share(rate: float, left: float) -> float:
    """The chance among what the kinds before have left over."""
    return min(1.0, rate / left) if left > 0 else 0.0


def _assembled(
    emr: EMR, gold: Sequence[str], coded: Sequence[CodedName | None]
) -> tuple[EMR, list[SpoiltName]]:
    diagnoses: list[Diagnosis] = []
    errors: list[SpoiltName] = []
    for number, entry in enumerate(coded):
        if entry is None:
            if number < len(gold):
                errors.append(SpoiltName(emr.emr_id, None, gold[number], "missing", None))
            continue
        if entry.kind is not None:
            errors.append(
                SpoiltName(emr.emr_id, len(diagnoses), entry.gold_code, entry.kind, entry.name_code)
            )
        diagnoses.append(Diagnosis(entry.name))
    degraded = EMR(emr.emr_id, emr.sections, tuple(diagnoses), emr.patient_id, emr.sex, emr.age)
    return degraded, errors
