"""Names, abbreviations and coders' evidence strings that point to codes, with what became of them.

Every string is found in a record by longest match, together with its context (denied, family,
past, uncertain, in the diagnosis list). `training.sightings` says how far it is believed there.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from label_config.errors import ConfigError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.checkpoint import open_checkpoint, save_checkpoint
from training.context import Context, ContextRules, context_at
from training.fold import SPACELESS_CHAR, fold, fold_name, whole_words
from training.matcher import Match, Matcher, longest
from training.names import names_by_code
from training.rows import read_rows, write_rows
from training.sightings import Sighting, Sightings

KIND = "lexicon"


@dataclass(frozen=True, slots=True)
class LexiconConfig:
    """How strings are believed."""

    min_precision: float = 0.2
    """A string below it stays silent."""
    name_prior: float = 0.6
    """Belief in an official name or synonym before any coder has seen it."""
    evidence_prior: float = 0.6
    """Belief in a string that a coder highlighted once, beyond that highlight itself."""
    prior_weight: float = 1.0
    """m: how many EMRs the prior is worth."""
    noisy_weight: float = 0.3
    """What an EMR with automatic codes counts, against 1 for a clean one."""
    shortest: int = 2
    """Characters in the shortest string."""

    def __post_init__(self) -> None:
        for name in ("min_precision", "name_prior", "evidence_prior", "noisy_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} needed a value in 0 to 1, got {getattr(self, name)}")
        if self.prior_weight <= 0 or self.shortest < 1:
            raise ConfigError(
                "the lexicon needed prior_weight > 0 and shortest >= 1, "
                f"got {self.prior_weight} and {self.shortest}"
            )


class Mention(NamedTuple):
    """A string found: original offsets in a section, and its context."""

    section: str
    start: int
    end: int
    pattern: str
    context: Context


class Lexicon:
    """Strings to codes. `learn` changes what the next call says, without training."""

    def __init__(
        self,
        codes: Sequence[str],
        *,
        config: LexiconConfig | None = None,
        rules: ContextRules | None = None,
    ) -> None:
        """Start empty; `fit` and `load` fill it."""
        self.codes = tuple(codes)
        self.config = config or LexiconConfig()
        self._rules = rules or ContextRules.load()
        self._column = {code: k for k, code in enumerate(self.codes)}
        self._matcher = Matcher()
        self._seen = Sightings(prior_weight=self.config.prior_weight)

    @classmethod
    def fit(
        cls,
        emrs: Sequence[EMR],
        codings: Sequence[Coding],
        taxonomy: Taxonomy,
        codes: Sequence[str],
        *,
        config: LexiconConfig | None = None,
        synonyms: Mapping[str, Iterable[str]] | None = None,
        rules: ContextRules | None = None,
    ) -> Lexicon:
        """Take the official names of `codes`, `synonyms` (code to names), and what `codings` show.

        `codings` belong to `emrs` by emr_id; noisy ones count less.
        """
        lexicon = cls(codes, config=config, rules=rules)
        for code, names in names_by_code(taxonomy, codes, synonyms).items():
            for name in names:
                lexicon._teach(fold_name(name), code, lexicon.config.name_prior)
        by_id = {emr.emr_id: emr for emr in emrs}
        known = [(by_id[c.emr_id], c) for c in codings if c.emr_id in by_id]
        for emr, coding in known:
            lexicon._teach_evidence(emr, coding)
        for emr, coding in known:
            lexicon._count(emr, coding)
        lexicon._seen.learn_factors()
        return lexicon

    def learn(self, emr: EMR, coding: Coding) -> None:
        """Count an EMR that a coder has finished; a second time replaces the first."""
        self._teach_evidence(emr, coding)
        self._count(emr, coding)

    def found(self, emr: EMR) -> list[Mention]:
        """Every believed string in the record with its context, in reading order."""
        return [m for m in self._find(emr, believed=True) if self._speaks(m.pattern, m.context)]

    def mentions(self, emr: EMR) -> list[EvidenceSpan]:
        """The same as evidence, one span per code it speaks for; `score` is the precision."""
        spans = []
        for mention in self.found(emr):
            for code in self._seen.priors[mention.pattern]:
                precision = self.precision(mention.pattern, code, mention.context)
                if precision >= self.config.min_precision:
                    spans.append(
                        EvidenceSpan(code, mention.section, mention.start, mention.end, precision)
                    )
        return spans

    def scores(self, emrs: Sequence[EMR]) -> npt.NDArray[np.float64]:
        """The best precision per EMR and code, shape (N, K), 0 to 1; 0 where nothing spoke."""
        scores_NK = np.zeros((len(emrs), len(self.codes)))
        for n, emr in enumerate(emrs):
            for span in self.mentions(emr):
                k = self._column[span.code]
                scores_NK[n, k] = max(scores_NK[n, k], span.score)
        return scores_NK

    def precision(self, pattern: str, code: str, context: Context) -> float:
        """How often the code is right where the string stands in this context, 0 to 1."""
        return self._seen.precision(pattern, code, context)

    # -- keeping ------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the strings and every vote as Parquet, the settings as JSON."""
        strings = [(p, c, w) for p, by in self._seen.priors.items() for c, w in by.items()]
        votes = [(emr_id, *vote) for emr_id, own in self._seen.votes.items() for vote in own]

        def write(to: Path) -> None:
            write_rows(to / "strings.parquet", _STRINGS, strings)
            write_rows(to / "votes.parquet", _VOTES, votes)

        config = {
            "codes": list(self.codes),
            "config": asdict(self.config),
            "factors": self._seen.factors,
        }
        save_checkpoint(folder, kind=KIND, config=config, write=write)

    @classmethod
    def load(cls, folder: Path, *, rules: ContextRules | None = None) -> Lexicon:
        """Read what `save` wrote. Raises CheckpointError for a missing or foreign folder."""
        settings = open_checkpoint(folder, kind=KIND)
        lexicon = cls(settings["codes"], config=LexiconConfig(**settings["config"]), rules=rules)
        lexicon._seen.factors = dict(settings["factors"])
        for row in read_rows(folder / "strings.parquet", _STRINGS):
            lexicon._seen.believe(row["pattern"], row["code"], row["prior"])
        lexicon._matcher.add(lexicon._seen.priors)
        votes: dict[str, list[Sighting]] = {}
        for row in read_rows(folder / "votes.parquet", _VOTES):
            emr_id = row.pop("emr_id")
            votes.setdefault(emr_id, []).append(Sighting(**row))
        for emr_id, sightings in votes.items():
            lexicon._seen.vote(emr_id, sightings)
        return lexicon

    # -- learning -----------------------------------------------------------------------------

    def _teach(self, pattern: str, code: str, prior: float) -> None:
        long_enough = len(pattern) >= self.config.shortest or SPACELESS_CHAR.match(pattern)
        if code not in self._column or not long_enough or not any(c.isalpha() for c in pattern):
            return
        self._seen.believe(pattern, code, prior)
        self._matcher.add([pattern])

    def _teach_evidence(self, emr: EMR, coding: Coding) -> None:
        for span in coding.evidence:
            text = emr.text_of(span.section)
            place = whole_words(text, span.start, span.end)  # a coder may have cut a word short
            if place is not None:
                found = fold_name(text[slice(*place)])
                self._teach(found, span.code, self.config.evidence_prior)

    def _count(self, emr: EMR, coding: Coding) -> None:
        """Let the EMR vote, once per string and context, on every code the string speaks for."""
        noisy = coding.source == "noisy"
        weight = self.config.noisy_weight if noisy else 1.0
        sure = dict(zip(coding.codes, coding.confidence or (1.0,) * len(coding.codes), strict=True))
        sightings = []
        for pattern, context in sorted({(m.pattern, m.context) for m in self._find(emr)}):
            for code in self._seen.priors[pattern]:
                yes = sure.get(code, 0.0)
                sightings.append(
                    Sighting(pattern, code, context, weight * yes, weight * (1.0 - yes))
                )
        self._seen.vote(emr.emr_id, sightings)

    # -- finding ------------------------------------------------------------------------------

    def _find(self, emr: EMR, *, believed: bool = False) -> Iterator[Mention]:
        for section, text in emr.texts():
            folded = fold(text)
            matches = list(self._matcher.find(folded.text))
            if not matches:
                continue
            base, scopes = self._rules.of_section(section), self._rules.scopes(folded)
            context = {m: context_at(scopes, m.start, m.end, base) for m in matches}

            def keep(match: Match, context: dict[Match, Context] = context) -> bool:
                return not believed or self._speaks(match.pattern, context[match])

            for match in longest(matches, keep):
                start, end = folded.span(match.start, match.end)
                yield Mention(section, start, end, match.pattern, context[match])

    def _speaks(self, pattern: str, context: Context) -> bool:
        least = self.config.min_precision
        return any(self.precision(pattern, c, context) >= least for c in self._seen.priors[pattern])


_STRINGS = pa.schema([("pattern", pa.string()), ("code", pa.string()), ("prior", pa.float64())])
_VOTES = pa.schema(
    [
        ("emr_id", pa.string()),
        ("pattern", pa.string()),
        ("code", pa.string()),
        ("context", pa.dictionary(pa.int8(), pa.string())),
        ("accepted", pa.float64()),
        ("rejected", pa.float64()),
    ]
)
