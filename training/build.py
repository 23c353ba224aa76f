"""Trains a suggester: members, what they say of unseen clean EMRs, fusion, threshold.

Shapes: N clean EMRs, K codes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from label_config.files import data_hash
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.described import fit_described
from training.encoder import Encoder
from training.fusion import Fusion
from training.member_training import Synonyms, TrainedMembers, train_members
from training.members import LATE, MEMBERS
from training.network_training import NetworkTrainer
from training.out_of_fold import Progress, targets
from training.similarity import NameMapper
from training.suggest import Suggester
from training.suggester_config import SuggesterConfig
from training.thresholds import DEFAULT
from training.tune import fuse_unseen, tune


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
    synonyms: Synonyms | None = None,
    names: NameMapper | None = None,
    number: int = 1,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Suggester:
    """See `Suggester.train`."""
    trained = train_members(
        emrs,
        noisy,
        clean,
        codes=codes,
        taxonomy=taxonomy,
        encoder=encoder,
        config=config,
        synonyms=synonyms,
        names=names,
        progress=progress,
    )
    return complete(
        trained,
        codes=codes,
        taxonomy=taxonomy,
        encoder=encoder,
        config=config,
        raw=raw,
        synonyms=synonyms,
        version=version_name(number, noisy, clean),
        cache=None if keep is None else keep / "features",
        runs=keep,
        progress=progress,
    )


def complete(
    trained: TrainedMembers,
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    encoder: Encoder,
    config: SuggesterConfig,
    raw: Sequence[EMR] = (),
    synonyms: Synonyms | None = None,
    version: str = "v0",
    cache: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
) -> Suggester:
    """Add the network that `config` asks for, and fuse; `trained` itself stays as it is.

    What was trained once can so be completed with several networks. `cache` keeps features from one
    to the next, `runs` the state of one that may be killed.
    """
    corpus, say = trained.corpus, progress or (lambda what, done, total: None)
    members, unseen = trained.members, trained.scores
    if config.network is not None:
        with TemporaryDirectory() if cache is None else nullcontext(cache) as folder:
            trainer = NetworkTrainer(
                corpus,
                raw,
                codes,
                taxonomy,
                encoder,
                config,
                config.network,
                Path(folder),
                runs,
                say,
            )
            if unseen is not None:
                unseen = unseen | trainer.unseen_scores()
            members = dataclasses.replace(members, network=trainer.train_whole())
    fusion, threshold = Fusion(MEMBERS[:4], late=LATE, config=config.fusion), DEFAULT
    validation, described = dict[str, float](), None
    if unseen is not None:
        fusion = Fusion(
            [m for m in MEMBERS if m in unseen and m not in LATE],
            late=[m for m in LATE if m in unseen],
            config=config.fusion,
        )
        targets_NK, folds_N = targets(corpus.clean, codes), corpus.folds(config)
        fused_NK = fuse_unseen(fusion, unseen, targets_NK, folds_N)
        say("codes that are new", 0, 1)
        described, fused_NK = fit_described(
            corpus.clean_emrs,
            corpus.clean,
            folds_N,
            fused_NK,
            codes=codes,
            taxonomy=taxonomy,
            noisy=corpus.noisy,
            synonyms=synonyms,
        )
        threshold, validation = tune(fusion, unseen, fused_NK, targets_NK, miss=config.miss)

    return Suggester(
        codes,
        members,
        fusion,
        trained.cases,
        encoder,
        described=described,
        threshold=threshold,
        version=version,
        validation={"clean_emrs": float(len(corpus.clean)), **validation},
        clean_ids=[c.emr_id for c in corpus.clean],
        config=config,
    )


def version_name(number: int, noisy: Sequence[Coding], clean: Sequence[Coding]) -> str:
    """For example "v3-1f09ac2e": a running number and a hash of the codings trained on."""
    return f"v{number}-{data_hash([*noisy, *clean])[:8]}"
