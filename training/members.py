"""The members that vote on codes: names, lexicon, phrases, sparse model, network, nearest EMRs.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from label_config.record import DIAGNOSIS_SECTION, EMR, EvidenceSpan
from training.encoder import Encoder
from training.lexicon import Lexicon
from training.network import Network
from training.phrase_model import PhraseModel
from training.similarity import NameMapper
from training.sparse import Span, SparseModel
from training.words import has_words

Floats = npt.NDArray[np.float64]
MEMBERS = ("names", "lexicon", "phrases", "sparse", "network", "knn")
LATE = ("network", "knn")
"""Those that are heard on a part of the clean EMRs alone before they serve."""
_EMRS_AT_ONCE = 128
"""Few enough to keep the features of all of them in memory."""
_MOST_SPANS, _LEAST_SHARE, _WORD = 3, 0.5, 3
"""What of the sparse model's attribution is shown: a few spans, none of them weak, each with a word
of so many letters."""


@dataclass(slots=True)
class Members:
    """Whoever there is; phrases, network and with it the nearest EMRs may be missing."""

    names: NameMapper
    lexicon: Lexicon
    sparse: SparseModel | None
    """None until some EMR has a code to learn from."""
    network: Network | None = None
    phrases: PhraseModel | None = None
    """None until there are clean EMRs to learn from."""

    def scores(self, emrs: Sequence[EMR]) -> dict[str, Floats]:
        """Each member's scores (N, K), 0 to 1; a row of NaN is a member with nothing to read."""
        said = {"names": self.names.scores(emrs), "lexicon": self.lexicon.scores(emrs)}
        if self.phrases is not None:
            said["phrases"] = self.phrases.scores(emrs)
        if self.sparse is not None:
            said["sparse"] = self.sparse.predict([emr.long_text for emr in emrs])
            said["sparse"][[not emr.long_text for emr in emrs]] = np.nan
        if self.network is not None:
            said |= network_scores(self.network, emrs)
        return said

    def evidence(self, emr: EMR, codes: Sequence[str]) -> dict[str, list[EvidenceSpan]]:
        """What in the record's text speaks for each of `codes`, unmerged.

        Phrases judged at their place explain best, then the names that the lexicon knows. The
        sparse model is asked for codes that no phrase in the free text explains, since its lesser
        words may be chance; the network, the slowest, for codes that nobody else can explain.
        """
        found: dict[str, list[EvidenceSpan]] = {code: [] for code in codes}
        phrases = [] if self.phrases is None else self.phrases.mentions(emr)
        explained = {span.code for span in phrases}
        strings = [span for span in self.lexicon.mentions(emr) if span.code not in explained]
        for span in (*self._name_evidence(emr), *phrases, *strings):
            if span.code in found:
                found[span.code].append(span)
        unnamed = [c for c in codes if all(s.section == DIAGNOSIS_SECTION for s in found[c])]
        for span in self._sparse_evidence(emr, unnamed):
            found[span.code].append(span)
        if self.network is not None:
            for code in codes:
                if not found[code]:
                    found[code] += self.network.evidence(emr, code)
        return found

    def save(self, folder: Path) -> None:
        """Write one folder per member."""
        self.names.save(folder / "names")
        self.lexicon.save(folder / "lexicon")
        if self.phrases is not None:
            self.phrases.save(folder / "phrases")
        if self.sparse is not None:
            self.sparse.save(folder / "sparse")
        if self.network is not None:
            self.network.save(folder / "network")

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Members:
        """Read what `save` wrote. Raises CheckpointError for a damaged or foreign folder."""
        sparse, network, phrases = (folder / name for name in ("sparse", "network", "phrases"))
        return cls(
            NameMapper.load(folder / "names", encoder),
            Lexicon.load(folder / "lexicon"),
            SparseModel.load(sparse) if sparse.exists() else None,
            Network.load(network, encoder) if network.exists() else None,
            PhraseModel.load(phrases) if phrases.exists() else None,
        )

    def _name_evidence(self, emr: EMR) -> Iterator[EvidenceSpan]:
        matches = self.names.map([d.name for d in emr.diagnoses])
        start = 0
        for number, (diagnosis, match) in enumerate(zip(emr.diagnoses, matches, strict=True), 1):
            start += len(f"{number}. ")
            end = start + len(diagnosis.name)
            for code, confidence in match.candidates:
                if confidence > 0:
                    yield EvidenceSpan(code, DIAGNOSIS_SECTION, start, end, confidence)
            start = end + 1

    def _sparse_evidence(self, emr: EMR, codes: Sequence[str]) -> Iterator[EvidenceSpan]:
        if self.sparse is not None and codes:
            yield from sparse_spans(self.sparse, emr, codes)


def sparse_spans(model: SparseModel, emr: EMR, codes: Sequence[str]) -> Iterator[EvidenceSpan]:
    """The strongest words for each code in the record.

    A span's score is its share of the strongest one, times how sure the model is, so that it
    compares with other members' scores.
    """
    text = emr.long_text
    sure = dict(zip(model.codes, model.predict([text])[0], strict=True))
    for code, spans in model.explain(text, codes).items():
        strong = [s for s in spans if s.score >= _LEAST_SHARE and _says_much(text, s)]
        for span in sorted(strong, key=lambda s: -s.score)[:_MOST_SPANS]:
            place = _place(emr, span)
            if place is not None:
                yield EvidenceSpan(code, *place, span.score * float(sure[code]))


def _says_much(text: str, span: Span) -> bool:
    """More than linking words: a word of some length, an abbreviation, or another script."""
    for word in text[span.start : span.end].split():
        letters = "".join(filter(str.isalpha, word))
        long = len(letters) >= _WORD and letters.lower() not in ENGLISH_STOP_WORDS
        if letters and (long or not letters.isascii() or letters.isupper()):
            return True
    return False


def _place(emr: EMR, span: Span) -> tuple[str, int, int] | None:
    """(section, start, end) of a span of `emr.long_text`; None if it runs over a section's end."""
    offset = 0
    for section, text in emr.sections.items():
        if not text.strip():
            continue
        if offset <= span.start and span.end <= offset + len(text):
            return section, span.start - offset, span.end - offset
        offset += len(text) + 1
    return None


def network_scores(network: Network, emrs: Sequence[EMR]) -> dict[str, Floats]:
    """The network's own probabilities and the votes of the nearest clean EMRs.

    NaN for EMRs without words in their free text: it reads nothing else.
    """
    probs, votes = [], []
    for start in range(0, len(emrs), _EMRS_AT_ONCE):
        part = emrs[start : start + _EMRS_AT_ONCE]
        probs_NK, z_NH = network.read(part)
        probs.append(probs_NK)
        ids = [emr.emr_id for emr in part]
        knn = network.knn
        votes.append(network.datastore.knn_probs(z_NH, knn.k, knn.tau, emr_ids=ids))
    nothing, silent = np.zeros((0, len(network.codes))), [not has_words(emr) for emr in emrs]
    said = {}
    for member, parts in (("network", probs), ("knn", votes)):
        said[member] = np.concatenate([nothing, *parts]).astype(np.float64)
        said[member][silent] = np.nan
    return said
