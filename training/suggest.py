"""Suggests codes for EMRs: every member speaks, fusion weighs them, each code shows its text.

Without clean codings a suggester is the cold start: names and lexicon know the codes' names, the
sparse model has learned the noisy codes, and all count the same. With clean ones the weights, the
calibration and the threshold come from what the members said of EMRs they had not learned from.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from label_config.errors import CheckpointError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.taxonomy import Taxonomy
from training.back_end import BackEnd
from training.checkpoint import open_checkpoint, save_checkpoint
from training.datastore import Datastore
from training.described import Described, join
from training.encoder import Encoder
from training.fusion import Fusion
from training.highlight import merge_evidence
from training.members import Members
from training.similarity import NameMapper
from training.suggester_config import SuggesterConfig
from training.thresholds import DEFAULT
from training.words import has_words

KIND = "suggester"
Floats = npt.NDArray[np.float64]


class Suggester:
    """What serves a project. `suggest` and `learn` may be called from several threads."""

    def __init__(
        self,
        codes: Sequence[str],
        members: Members,
        fusion: Fusion,
        cases: Datastore,
        encoder: Encoder,
        *,
        described: Described | None = None,
        threshold: float = DEFAULT,
        version: str = "v0",
        validation: Mapping[str, float] | None = None,
        clean_ids: Iterable[str] = (),
        config: SuggesterConfig | None = None,
    ) -> None:
        """Use `train` or `load`. `cases` are the clean EMRs by the encoder's embeddings."""
        self.codes = tuple(codes)
        self.members, self.fusion, self.described = members, fusion, described
        self._new = [self.codes.index(code) for code in described.codes] if described else []
        self.threshold, self.version = threshold, version
        self.validation = dict(validation or {})
        """Measured on clean EMRs out of fold: micro_f1, precision, recall, ...; no micro_f1 before
        there are any."""
        self.clean_ids = tuple(clean_ids)
        """The clean EMRs that it was trained on."""
        self.config = config or SuggesterConfig()
        self._cases, self._encoder = cases, encoder
        self._lock = RLock()

    @classmethod
    def train(
        cls,
        emrs: Sequence[EMR],
        noisy: Sequence[Coding],
        clean: Sequence[Coding],
        *,
        codes: Sequence[str],
        taxonomy: Taxonomy,
        encoder: Encoder,
        config: SuggesterConfig | None = None,
        raw: Sequence[EMR] = (),
        synonyms: Mapping[str, Iterable[str]] | None = None,
        names: NameMapper | None = None,
        number: int = 1,
        keep: Path | None = None,
        progress: Any = None,
    ) -> Suggester:
        """Train every member on `emrs` and their noisy and clean codings, matched by emr_id.

        `raw` are EMRs read by the network's first stage, which needs no codings; `synonyms` maps a
        code to further names; `names` is a mapper fitted before, which saves its time. `number`
        becomes part of the version. In the folder `keep` the network's training keeps its state
        and its features, no text: called again after a kill with the same data and settings, it
        goes on from there. Codes outside `codes` are ignored, as are codings marked "bad". Raises
        ConfigError without EMRs or codes.
        """
        from training.build import build  # the whole of training; serving does without

        return build(
            emrs,
            noisy,
            clean,
            codes=codes,
            taxonomy=taxonomy,
            encoder=encoder,
            config=config or SuggesterConfig(),
            raw=raw,
            synonyms=synonyms,
            names=names,
            number=number,
            keep=keep,
            progress=progress,
        )

    def predict(self, emrs: Sequence[EMR], *, progress: Any = None) -> Floats:
        """Return the fused probability of each code, shape (N, K)."""
        if not emrs:
            return np.zeros((0, len(self.codes)))
        parts = []
        for start in range(0, len(emrs), 256):
            with self._lock:
                _, fused_NK = self._said(emrs[start : start + 256])
                parts.append(fused_NK)
            if progress is not None:
                progress("suggesting codes", min(start + 256, len(emrs)), len(emrs))
        return np.concatenate(parts)

    def suggest(self, emrs: Sequence[EMR]) -> list[SuggestionSet]:
        """The most probable codes of each EMR with evidence, who spoke, and similar cases."""
        if not emrs:
            return []
        with self._lock:
            scores, fused_NK = self._said(emrs)
            similar = self._similar(emrs)
            return [
                SuggestionSet(
                    emr.emr_id,
                    self._suggestions(emr, fused_NK[n], {m: s[n] for m, s in scores.items()}),
                    model_version=self.version,
                    threshold=self.threshold,
                    similar=similar[n],
                )
                for n, emr in enumerate(emrs)
            ]

    def learn(self, emr: EMR, coding: Coding) -> None:
        """Take in an EMR that a coder has finished: the next suggestion knows it, untrained."""
        if coding.quality == "bad":
            return
        with self._lock:
            self.members.lexicon.learn(emr, coding)
            if self.members.phrases is not None:
                self.members.phrases.learn(emr, coding)
            self._cases.add(self._embed([emr]), [emr], [coding])
            if self.members.network is not None:
                self.members.network.learn([emr], [coding])

    # -- keeping ------------------------------------------------------------------------------

    def save(self, folder: Path, *, version: str | None = None) -> None:
        """Write the model folder, whole or not at all, under another `version` if one is given."""
        config = {
            "version": version or self.version,
            "codes": list(self.codes),
            "threshold": self.threshold,
            "validation": self.validation,
            "clean_ids": list(self.clean_ids),
            "fusion": self.fusion.to_dict(),
            "encoder": {"name": self._encoder.name, "checksum": self._encoder.checksum},
            "shown": {name: getattr(self.config, name) for name in _SHOWN},
            "settings": asdict(self.config),
        }

        def write(to: Path) -> None:
            self.members.save(to)
            self._cases.save(to / "cases")
            if self.described is not None:
                self.described.save(to / "described")

        with self._lock:
            save_checkpoint(folder, kind=KIND, config=config, write=write)

    @classmethod
    def load(
        cls, folder: Path, encoder: Encoder | None = None, *, back_end: BackEnd = "torch"
    ) -> Suggester:
        """Read what `save` wrote, with the encoder that it names, on `back_end`, or the one given.

        Raises CheckpointError for a missing, damaged or foreign folder, or another encoder.
        """
        settings = open_checkpoint(folder, kind=KIND)
        described = folder / "described"
        try:
            wanted = settings["encoder"]
            encoder = encoder or Encoder.load(wanted["name"], back_end=back_end)
            encoder.check_is(wanted, folder)
            return cls(
                settings["codes"],
                Members.load(folder, encoder),
                Fusion.from_dict(settings["fusion"]),
                Datastore.load(folder / "cases", settings["codes"]),
                encoder,
                described=Described.load(described) if described.exists() else None,
                threshold=settings["threshold"],
                version=settings["version"],
                validation=settings["validation"],
                clean_ids=settings["clean_ids"],
                config=SuggesterConfig(**settings["shown"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from error

    # -- parts of a suggestion ----------------------------------------------------------------

    def _said(self, emrs: Sequence[EMR]) -> tuple[dict[str, Floats], Floats]:
        """What each member says, and all together; "described" speaks of new codes only."""
        said = self.members.scores(emrs)
        fused_NK = self.fusion.combine(said)
        if self.described is not None:
            said["described"] = np.zeros(fused_NK.shape)
            said["described"][:, self._new] = self.described.probs(emrs)
            fused_NK[:, self._new] = join(fused_NK[:, self._new], said["described"][:, self._new])
        return said, fused_NK

    def _suggestions(
        self, emr: EMR, fused_K: Floats, said: Mapping[str, Floats]
    ) -> tuple[Suggestion, ...]:
        order = np.argsort(-fused_K, kind="stable")[: self.config.max_suggestions]
        columns = [int(k) for k in order if fused_K[k] >= self.config.floor]
        evidence = self._evidence(emr, [self.codes[k] for k in columns])
        return tuple(
            Suggestion(
                code=self.codes[k],
                confidence=float(fused_K[k]),
                members={m: float(s[k]) for m, s in said.items() if s[k] >= self.config.floor},
                evidence=merge_evidence(emr, evidence[self.codes[k]]),
            )
            for k in columns
        )

    def _evidence(self, emr: EMR, codes: Sequence[str]) -> dict[str, list[EvidenceSpan]]:
        """What speaks for each code; words like a new code's name where nobody else explains it."""
        found = self.members.evidence(emr, codes)
        if self.described is not None:
            for span in self.described.evidence(emr, [c for c in codes if not found[c]]):
                found[span.code].append(span)
        return found

    def _similar(self, emrs: Sequence[EMR]) -> list[tuple[SimilarCase, ...]]:
        """As the network sees them; by the encoder's embedding where it has nothing to read."""
        network = self.members.network
        if network is None:
            return self._nearest(emrs, self._embed, self._cases)
        reads = [has_words(emr) for emr in emrs]
        read = [emr for emr, can in zip(emrs, reads, strict=True) if can]
        others = [emr for emr, can in zip(emrs, reads, strict=True) if not can]
        its = iter(self._nearest(read, network.embed, network.datastore))
        rest = iter(self._nearest(others, self._embed, self._cases))
        return [next(its if can else rest) for can in reads]

    def _nearest(
        self,
        emrs: Sequence[EMR],
        embed: Callable[[Sequence[EMR]], npt.NDArray[np.float32]],
        store: Datastore,
    ) -> list[tuple[SimilarCase, ...]]:
        k = self.config.similar
        if not emrs or not k or not len(store):
            return [()] * len(emrs)
        near = zip(emrs, embed(emrs), strict=True)
        return [tuple(store.similar(z_D, k, emr=emr)) for emr, z_D in near]

    def _embed(self, emrs: Sequence[EMR]) -> npt.NDArray[np.float32]:
        return embed_records(self._encoder, emrs)


_SHOWN = ("max_suggestions", "floor", "similar")


def embed_records(encoder: Encoder, emrs: Sequence[EMR]) -> npt.NDArray[np.float32]:
    """One vector per EMR, from its free text, or its diagnosis names where it has none."""
    return encoder.embed([emr.long_text or emr.diagnosis_text for emr in emrs])
