"""Trains every member but the network, and asks each about clean EMRs it has not learned from.

Shapes: N clean EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from label_config.errors import ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.datastore import Datastore
from training.encoder import Encoder
from training.lexicon import Lexicon
from training.members import Members
from training.out_of_fold import (
    Floats,
    Progress,
    draw_folds,
    lexicon_scores,
    phrase_scores,
    sparse_scores,
    targets,
)
from training.phrase_model import PhraseModel
from training.similarity import NameMapper
from training.sparse import SparseModel
from training.suggest import embed_records
from training.suggester_config import SuggesterConfig

Synonyms = Mapping[str, Iterable[str]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """EMRs with their codings, matched; an EMR with a clean coding is not among the noisy."""

    noisy_emrs: list[EMR]
    noisy: list[Coding]
    clean_emrs: list[EMR]
    clean: list[Coding]

    @classmethod
    def match(cls, emrs: Sequence[EMR], noisy: Sequence[Coding], clean: Sequence[Coding]) -> Corpus:
        """Match by emr_id; codings without an EMR or marked "bad" are left out."""
        by_id = {emr.emr_id: emr for emr in emrs}
        clean = [c for c in clean if c.emr_id in by_id and c.quality != "bad"]
        done = {c.emr_id for c in clean}
        noisy = [c for c in noisy if c.emr_id in by_id and c.emr_id not in done]
        return cls([by_id[c.emr_id] for c in noisy], noisy, [by_id[c.emr_id] for c in clean], clean)

    def folds(self, config: SuggesterConfig) -> npt.NDArray[np.int64]:
        """The fold of each clean EMR, shape (N,)."""
        return draw_folds(len(self.clean), config.folds, seed=config.seed)

    def noisy_rows(self, config: SuggesterConfig) -> tuple[npt.NDArray[np.int64], Floats]:
        """Which noisy EMRs still help the sparse model, drawn at random, and what each counts."""
        room = max(0, config.noisy_rows - len(self.clean))
        rows = np.arange(len(self.noisy))
        if len(rows) > room:
            rows = np.sort(np.random.default_rng(config.seed).choice(rows, room, replace=False))
        chosen = [self.noisy[i] for i in rows]
        sure = [float(np.mean(c.confidence)) if c.confidence else 1.0 for c in chosen]
        return rows, config.noisy_weight * np.maximum(np.array(sure, dtype=float), 0.1)


@dataclass(frozen=True, slots=True)
class TrainedMembers:
    """The members but for the network, and what they say of clean EMRs that they had not seen."""

    corpus: Corpus
    members: Members
    cases: Datastore
    """The clean EMRs by the encoder's embeddings."""
    scores: dict[str, Floats] | None = None
    """Per member (N, K); None where there are too few clean EMRs to tune fusion on."""


def train_members(
    emrs: Sequence[EMR],
    noisy: Sequence[Coding],
    clean: Sequence[Coding],
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    encoder: Encoder,
    config: SuggesterConfig,
    synonyms: Synonyms | None = None,
    names: NameMapper | None = None,
    progress: Progress | None = None,
) -> TrainedMembers:
    """See `Suggester.train`; `config.network` is not looked at."""
    if not emrs or not codes:
        raise ConfigError(f"training needed EMRs and codes, got {len(emrs)} and {len(codes)}")
    corpus = Corpus.match(emrs, noisy, clean)
    say = progress or (lambda what, done, total: None)
    if names is None:
        say("names", 0, 1)
        entered = [d.name for emr in emrs for d in emr.diagnoses]
        names = NameMapper.fit(
            entered, taxonomy, codes, encoder, config=config.similarity, synonyms=synonyms
        )
    say("lexicon", 0, 1)
    lexicon = Lexicon.fit(
        [*corpus.noisy_emrs, *corpus.clean_emrs],
        [*corpus.noisy, *corpus.clean],
        taxonomy,
        codes,
        config=config.lexicon,
        synonyms=synonyms,
    )
    members = Members(names, lexicon, _sparse(corpus, codes, config, progress))
    say("similar cases", 0, 1)
    embeddings_ND = embed_records(encoder, corpus.clean_emrs)
    cases = Datastore.build(embeddings_ND, corpus.clean_emrs, corpus.clean, codes)
    if len(corpus.clean) < config.min_clean:
        return TrainedMembers(corpus, members, cases)
    members.phrases = PhraseModel.fit(
        corpus.clean_emrs,
        corpus.clean,
        taxonomy,
        codes,
        config=config.phrases,
        synonyms=synonyms,
        seed=config.seed,
    )
    scores = _unseen_scores(corpus, members, codes, taxonomy, config, synonyms, say)
    return TrainedMembers(corpus, members, cases, scores)


def _unseen_scores(
    corpus: Corpus,
    members: Members,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    config: SuggesterConfig,
    synonyms: Synonyms | None,
    say: Progress,
) -> dict[str, Floats]:
    """Per member (N, K), of clean EMRs that it has not learned from."""
    emrs, folds_N = corpus.clean_emrs, corpus.folds(config)
    say("checking the lexicon", 0, 1)
    return {
        "names": members.names.scores(emrs),
        "lexicon": lexicon_scores(
            emrs,
            corpus.clean,
            folds_N,
            taxonomy,
            codes,
            config=config.lexicon,
            synonyms=synonyms,
            also=(corpus.noisy_emrs, corpus.noisy),
        ),
        "phrases": phrase_scores(
            emrs,
            corpus.clean,
            folds_N,
            taxonomy,
            codes,
            config=config.phrases,
            synonyms=synonyms,
        ),
        "sparse": sparse_scores(
            [emr.long_text for emr in emrs],
            targets(corpus.clean, codes),
            folds_N,
            config=config.sparse,
            also=_noisy_texts(corpus, codes, config),
            progress=say,
        ),
    }


def _sparse(
    corpus: Corpus, codes: Sequence[str], config: SuggesterConfig, progress: Progress | None
) -> SparseModel | None:
    texts, targets_NK, weights_N = _noisy_texts(corpus, codes, config)
    texts = [emr.long_text for emr in corpus.clean_emrs] + texts
    if not any(texts):
        return None
    return SparseModel.fit(
        texts,
        np.concatenate([targets(corpus.clean, codes), targets_NK]),
        codes,
        config.sparse,
        weights_N=np.concatenate([np.ones(len(corpus.clean)), weights_N]),
        progress=None if progress is None else lambda i, n: progress("sparse model", i, n),
    )


def _noisy_texts(
    corpus: Corpus, codes: Sequence[str], config: SuggesterConfig
) -> tuple[list[str], npt.NDArray[np.bool_], Floats]:
    rows, weights_N = corpus.noisy_rows(config)
    texts = [corpus.noisy_emrs[i].long_text for i in rows]
    return texts, targets([corpus.noisy[i] for i in rows], codes), weights_N
