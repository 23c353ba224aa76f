"""Trains the network of a suggester on some of its clean EMRs, and goes on after a kill.

Shapes: N clean EMRs, K codes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from label_config.errors import CheckpointError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.encoder import Encoder
from training.member_training import Corpus
from training.members import network_scores
from training.network import Network
from training.out_of_fold import Floats, Progress
from training.stages import StagesConfig, Taught, train_network
from training.suggester_config import SuggesterConfig
from training.teacher import sparse_teacher

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkTrainer:
    """Trains the network on some clean EMRs and all others.

    In the folder `cache` records are encoded once. In `runs` each training has a run folder: called
    again after a kill, it goes on from there.
    """

    corpus: Corpus
    raw: Sequence[EMR]
    codes: Sequence[str]
    taxonomy: Taxonomy
    encoder: Encoder
    config: SuggesterConfig
    stages: StagesConfig
    cache: Path
    runs: Path | None
    say: Progress

    def train_whole(self) -> Network:
        """On all clean EMRs."""
        return self._train("whole", self.corpus.clean_emrs, self.corpus.clean)

    def unseen_scores(self) -> dict[str, Floats]:
        """What the network and the nearest EMRs say (N, K) of clean EMRs they have not seen.

        It is trained once without the first fold, and is silent (NaN) about the others.
        """
        emrs, codings = self.corpus.clean_emrs, self.corpus.clean
        folds_N = self.corpus.folds(self.config)
        train, test = np.flatnonzero(folds_N != 0), np.flatnonzero(folds_N == 0)
        # the whole one's adapter has seen the first fold's codes: this one fine-tunes its own
        network = self._train("unseen", [emrs[i] for i in train], [codings[i] for i in train])
        scores: dict[str, Floats] = {}
        for member, said_NK in network_scores(network, [emrs[i] for i in test]).items():
            scores[member] = np.full((len(emrs), len(self.codes)), np.nan)
            scores[member][test] = said_NK
        return scores

    def _train(self, name: str, emrs: Sequence[EMR], codings: Sequence[Coding]) -> Network:
        """Run the three stages on the given clean EMRs; a damaged or foreign state is removed."""
        taught = self._teach(emrs, codings) if self.stages.noisy.taught else None
        run_folder = None if self.runs is None else self.runs / name
        try:
            return self._run(emrs, codings, taught, run_folder)
        except CheckpointError as error:
            if run_folder is None or not run_folder.exists():
                raise
            _log.warning("%s; this training starts again", error)
            shutil.rmtree(run_folder)
            return self._run(emrs, codings, taught, run_folder)

    def _run(
        self,
        emrs: Sequence[EMR],
        codings: Sequence[Coding],
        taught: Taught | None,
        run_folder: Path | None,
    ) -> Network:
        return train_network(
            self.raw,
            self.corpus.noisy_emrs,
            self.corpus.noisy,
            emrs,
            codings,
            codes=self.codes,
            taxonomy=self.taxonomy,
            encoder=self.encoder,
            config=self.stages,
            cache=self.cache,
            run_folder=run_folder,
            taught=taught,
            progress=self.say,
        )

    def _teach(self, emrs: Sequence[EMR], codings: Sequence[Coding]) -> Taught:
        """A teacher of its own for each training: it sees no other clean EMR, nor its codes."""
        corpus = self.corpus
        rows, noisy_weights = corpus.noisy_rows(self.config)
        known = [*emrs, *(corpus.noisy_emrs[i] for i in rows)]
        coded = {emr.emr_id for emr in (*corpus.clean_emrs, *known)}
        others = {e.emr_id: e for e in (*corpus.noisy_emrs, *self.raw) if e.emr_id not in coded}
        return sparse_teacher(
            known,
            [*codings, *(corpus.noisy[i] for i in rows)],
            list(others.values()),
            codes=self.codes,
            weights_N=np.concatenate([np.ones(len(emrs)), noisy_weights]),
            config=self.config.sparse,
            most=self.stages.noisy.most_taught,
            seed=self.config.seed,
            progress=lambda done, total: self.say("teacher", done, total),
        )
