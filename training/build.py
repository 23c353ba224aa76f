"""Trains a suggester: members, what they say of unseen clean EMRs, fusion, threshold.

Shapes: N clean EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from label_config.errors import ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.datastore import Datastore
from training.described import fit_described
from training.encoder import Encoder
from training.fusion import Fusion
from training.lexicon import Lexicon
from training.members import MEMBERS, Members, network_scores
from training.network import Network
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
from training.stages import train_network
from training.suggest import Suggester, SuggesterConfig, embed_records, version_name
from training.thresholds import DEFAULT
from training.tune import fuse_unseen, tune


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


def build(
    emrs: Sequence[EMR],
    noisy: Sequence[Coding],
    clean: Sequence[Coding],
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    encoder: Encoder,
    config: SuggesterConfig,
    raw: Sequence[EMR] = (),
    synonyms: Mapping[str, Iterable[str]] | None = None,
    names: NameMapper | None = None,
    number: int = 1,
    progress: Progress | None = None,
) -> Suggester:
    """See `Suggester.train`."""
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
    members = Members(
        names,
        lexicon,
        _sparse(corpus, codes, config, progress),
        phrases=_phrases(corpus, codes, taxonomy, config, synonyms),
    )

    with TemporaryDirectory() as cache:
        network = _NetworkTrainer(corpus, raw, codes, taxonomy, encoder, config, Path(cache), say)
        fusion, threshold = Fusion(MEMBERS[:4], config=config.fusion), DEFAULT
        validation, described = dict[str, float](), None
        if len(corpus.clean) >= config.min_clean:
            scores = _unseen_scores(
                corpus, members, network, codes, taxonomy, config, synonyms, say
            )
            fusion = Fusion([m for m in MEMBERS if m in scores], config=config.fusion)
            targets_NK = targets(corpus.clean, codes)
            fused_NK = fuse_unseen(fusion, scores, targets_NK, _folds(corpus, config))
            say("codes that are new", 0, 1)
            described, fused_NK = fit_described(
                corpus.clean_emrs,
                corpus.clean,
                _folds(corpus, config),
                fused_NK,
                codes=codes,
                taxonomy=taxonomy,
                noisy=corpus.noisy,
                synonyms=synonyms,
            )
            threshold, validation = tune(fusion, scores, fused_NK, targets_NK, miss=config.miss)
        if config.network is not None:
            members.network = network.train(corpus.clean_emrs, corpus.clean)

    say("similar cases", 0, 1)
    embeddings_ND = embed_records(encoder, corpus.clean_emrs)
    return Suggester(
        codes,
        members,
        fusion,
        Datastore.build(embeddings_ND, corpus.clean_emrs, corpus.clean, codes),
        encoder,
        described=described,
        threshold=threshold,
        version=version_name(number, noisy, clean),
        validation={"clean_emrs": float(len(corpus.clean)), **validation},
        clean_ids=[c.emr_id for c in corpus.clean],
        config=config,
    )


def _unseen_scores(
    corpus: Corpus,
    members: Members,
    network: _NetworkTrainer,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    config: SuggesterConfig,
    synonyms: Mapping[str, Iterable[str]] | None,
    say: Progress,
) -> dict[str, Floats]:
    """Per member (N, K), of clean EMRs that it has not learned from.

    The network is trained once without the first fold: it is silent (NaN) about the others.
    """
    emrs, folds_N = corpus.clean_emrs, _folds(corpus, config)
    say("checking the lexicon", 0, 1)
    scores = {
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
            also=_noisy_rows(corpus, codes, config),
            progress=say,
        ),
    }
    if config.network is not None:
        test = np.flatnonzero(folds_N == 0)
        train = np.flatnonzero(folds_N != 0)
        trained = network.train([emrs[i] for i in train], [corpus.clean[i] for i in train])
        for member, said_NK in network_scores(trained, [emrs[i] for i in test]).items():
            scores[member] = np.full(scores["names"].shape, np.nan)
            scores[member][test] = said_NK
    return scores


def _folds(corpus: Corpus, config: SuggesterConfig) -> npt.NDArray[np.int64]:
    return draw_folds(len(corpus.clean), config.folds, seed=config.seed)


def _phrases(
    corpus: Corpus,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    config: SuggesterConfig,
    synonyms: Mapping[str, Iterable[str]] | None,
) -> PhraseModel | None:
    """Only where fusion can learn from clean EMRs what it is worth."""
    if len(corpus.clean) < config.min_clean:
        return None
    return PhraseModel.fit(
        corpus.clean_emrs,
        corpus.clean,
        taxonomy,
        codes,
        config=config.phrases,
        synonyms=synonyms,
        seed=config.seed,
    )


def _sparse(
    corpus: Corpus, codes: Sequence[str], config: SuggesterConfig, progress: Progress | None
) -> SparseModel | None:
    texts, targets_NK, weights_N = _noisy_rows(corpus, codes, config)
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


def _noisy_rows(
    corpus: Corpus, codes: Sequence[str], config: SuggesterConfig
) -> tuple[list[str], npt.NDArray[np.bool_], Floats]:
    """Texts, targets and weights of the noisy EMRs that still help, drawn at random."""
    room = max(0, config.noisy_rows - len(corpus.clean))
    rows = np.arange(len(corpus.noisy))
    if len(rows) > room:
        rows = np.sort(np.random.default_rng(config.seed).choice(rows, room, replace=False))
    chosen = [corpus.noisy[i] for i in rows]
    sure = [float(np.mean(c.confidence)) if c.confidence else 1.0 for c in chosen]
    weights_N = config.noisy_weight * np.maximum(np.array(sure, dtype=float), 0.1)
    return [corpus.noisy_emrs[i].long_text for i in rows], targets(chosen, codes), weights_N


@dataclass(frozen=True, slots=True)
class _NetworkTrainer:
    """Trains the network on some clean EMRs and all others; records are encoded once."""

    corpus: Corpus
    raw: Sequence[EMR]
    codes: Sequence[str]
    taxonomy: Taxonomy
    encoder: Encoder
    config: SuggesterConfig
    cache: Path
    say: Progress

    def train(self, emrs: Sequence[EMR], codings: Sequence[Coding]) -> Network:
        """Run the three stages."""
        return train_network(
            self.raw,
            self.corpus.noisy_emrs,
            self.corpus.noisy,
            emrs,
            codings,
            codes=self.codes,
            taxonomy=self.taxonomy,
            encoder=self.encoder,
            config=self.config.network,
            cache=self.cache,
            progress=self.say,
        )
