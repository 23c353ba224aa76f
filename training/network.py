"""The trained network at work: probabilities, evidence, embeddings, similar cases.

Shapes: N EMRs, K codes, H the readout's width, V nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from label_config.errors import CheckpointError, ConfigError, UnknownCode
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.suggestion import SimilarCase
from training.adapter import Adapter
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.datastore import NEIGHBOURS, Datastore
from training.encoder import Encoder, Progress
from training.evidence import evidence_spans
from training.extractor import Extracted, Extractor, ExtractorConfig
from training.features import FeatureStore
from training.graph import GraphBatch, RecordGraph, build_graph, pack
from training.windows import minibatches_by_length
from training.words import RecordFeatures, has_words

KIND = "network"
NODES_PER_MINIBATCH = 16_000
REMEMBERED_RECORDS = 256
"""Features kept in memory, so that probabilities, evidence and similar cases of one EMR share one
pass of the encoder."""


@dataclass(frozen=True, slots=True)
class KnnConfig:
    """How the clean EMRs vote at inference (eq. 11-13); the defaults are the paper's."""

    k: int = NEIGHBOURS
    weight: float = 0.3
    """lambda: share of the vote in the final probability; the rest is the network's."""
    tau: float | None = None
    """Scale of a distance; None takes the datastore's own."""
    adaptive: bool = False
    """A lambda per record, by its distance to the voters and the network's doubt; the paper's is
    the same for all."""

    def __post_init__(self) -> None:
        if self.k < 1 or not 0.0 <= self.weight <= 1.0 or (self.tau is not None and self.tau <= 0):
            raise ConfigError(
                f"kNN needs k >= 1, weight in 0 to 1 and tau > 0, got {self.k}, "
                f"{self.weight}, {self.tau}"
            )


class Network:
    """An extractor with the encoder it was trained on and the clean EMRs it has seen."""

    def __init__(
        self,
        extractor: Extractor,
        *,
        codes: Sequence[str],
        encoder: Encoder,
        datastore: Datastore,
        knn: KnnConfig | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """`provenance` (settings, seed, data hash, history) is kept and saved, never read."""
        self.extractor = extractor.eval().to(encoder.device)
        self.codes = tuple(codes)
        self.encoder = encoder
        self.datastore = datastore
        self.knn = knn or KnnConfig()
        self.provenance = dict(provenance or {})
        self.store = FeatureStore(encoder, limit=REMEMBERED_RECORDS)
        self._last_read: _Read | None = None
        self._last_explained: _Explained | None = None

    def read(
        self, emrs: Sequence[EMR], *, progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `predict` (without kNN) and `embed` from one pass.

        What was said last is remembered: `predict`, then `embed` of the same EMRs is one pass.
        """
        features = self.store.features(emrs, progress=progress)
        last = self._last_read
        if last is not None and last.is_of(features):
            return last.probs_NK.copy(), last.z_NH.copy()
        graphs = build_graphs(features, self.extractor.config)
        probs_NK, z_NH = run_graphs(self.extractor, graphs)
        if len(features) <= REMEMBERED_RECORDS:
            self._last_read = _Read(features, probs_NK.copy(), z_NH.copy())
        return probs_NK, z_NH

    def predict(
        self, emrs: Sequence[EMR], *, knn: bool = False, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the probability of each code, shape (N, K).

        With `knn` the clean EMRs vote too (eq. 13); an EMR never votes on itself.
        """
        probs_NK, z_NH = self.read(emrs, progress=progress)
        if not knn or not len(self.datastore):
            return probs_NK
        votes_NK, near_N = self.datastore.votes(
            z_NH, self.knn.k, self.knn.tau, emr_ids=[emr.emr_id for emr in emrs]
        )
        return mixed(probs_NK, votes_NK, self.knn, near_N=near_N)

    def embed(
        self, emrs: Sequence[EMR], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the L2-normalised readout of each EMR, shape (N, H)."""
        return self.read(emrs, progress=progress)[1]

    def similar(self, emr: EMR, k: int = NEIGHBOURS) -> list[SimilarCase]:
        """The k clean EMRs nearest to this one, with what they share."""
        return self.datastore.similar(self.embed([emr])[0], k, emr=emr)

    def learn(self, emrs: Sequence[EMR], codings: Sequence[Coding]) -> None:
        """Let newly coded EMRs vote and be shown at once; the weights stay as they are.

        Those without words in their free text all look the same to it and are left out.
        """
        pairs = [(e, c) for e, c in zip(emrs, codings, strict=True) if has_words(e)]
        if pairs:
            emrs, codings = map(list, zip(*pairs, strict=True))
            self.datastore.add(self.embed(emrs), emrs, codings)

    def evidence(self, emr: EMR, code: str, *, at_most: int = 5) -> tuple[EvidenceSpan, ...]:
        """The text that speaks for a code, strongest first: attention x |input x gradient|.

        Raises UnknownCode for a code that the network was not trained on.
        """
        if code not in self.codes:
            raise UnknownCode(f"the network was not trained on code {code}")
        last = self._last_explained
        (features,) = self.store.features([emr])
        if last is None or last.features is not features:
            last = self._last_explained = _Explained.of(features, self.extractor)
        scores_V = last.scores(self.codes.index(code))
        return evidence_spans(features, scores_V, emr, code=code, at_most=at_most)

    def save(self, folder: Path) -> None:
        """Write the model folder: whole or not at all."""
        encoder = {"name": self.encoder.name, "checksum": self.encoder.checksum}
        config = {
            "codes": list(self.codes),
            "encoder": {**encoder, "dim": self.encoder.dim},
            "extractor": asdict(self.extractor.config),
            "knn": asdict(self.knn),
            "provenance": self.provenance,
        }

        def write(to: Path) -> None:
            save_tensors(to / "model.safetensors", self.extractor.state_dict())
            self.datastore.save(to / "datastore")
            if self.encoder.adapter is not None:
                self.encoder.adapter.save(to / "adapter")

        save_checkpoint(folder, kind=KIND, config=config, write=write)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Network:
        """Read a model folder; with an adapter in it, `encoder` is the plain one.

        Raises CheckpointError if it is damaged or wants another encoder.
        """
        config = open_checkpoint(folder, kind=KIND)
        try:
            wanted = config["encoder"]
            if (folder / "adapter").exists() and wanted["checksum"] != encoder.checksum:
                encoder = Adapter.load(folder / "adapter").apply(encoder)
            encoder.check_is(wanted, folder)
            codes = [str(code) for code in config["codes"]]
            extractor = Extractor(
                ExtractorConfig(**config["extractor"]),
                encoder_dim=wanted["dim"],
                n_codes=len(codes),
            )
            extractor.load_state_dict(load_tensors(folder / "model.safetensors"))
            knn = KnnConfig(**config["knn"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from error
        return cls(
            extractor,
            codes=codes,
            encoder=encoder,
            datastore=Datastore.load(folder / "datastore", codes),
            knn=knn,
            provenance=config.get("provenance"),
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """What the network said of some records."""

    features: list[RecordFeatures]
    probs_NK: NDArray[np.float32]
    z_NH: NDArray[np.float32]

    def is_of(self, features: Sequence[RecordFeatures]) -> bool:
        """Whether these are the same records; the store gives one object per text."""
        alike = len(features) == len(self.features)
        return alike and all(a is b for a, b in zip(features, self.features, strict=True))


@dataclass(frozen=True, slots=True)
class _Explained:
    """One record's way through the network, kept so that each of its codes can be explained."""

    features: RecordFeatures
    nodes_VD: Tensor
    said: Extracted

    @classmethod
    def of(cls, features: RecordFeatures, extractor: Extractor) -> _Explained:
        batch = pack(build_graphs([features], extractor.config), device=extractor.device)
        nodes_VD = batch.nodes_VD.requires_grad_()
        with torch.enable_grad():
            return cls(features, nodes_VD, extractor(batch, nodes_VD=nodes_VD))

    def scores(self, column: int) -> NDArray[np.float32]:
        """Attention x |input x gradient| of every node for one code, shape (V,)."""
        logit = self.said.logits_BK[0, column]
        (gradient_VD,) = torch.autograd.grad(logit, self.nodes_VD, retain_graph=True)
        effect_V = (self.nodes_VD * gradient_VD).norm(dim=1).detach()
        attention_V = self.said.attention_BKS[0, column].detach()
        scores_V: NDArray[np.float32] = (attention_V * effect_V).cpu().numpy()
        return scores_V


def mixed(
    probs_NK: NDArray[np.float32],
    votes_NK: NDArray[np.float32],
    knn: KnnConfig,
    *,
    near_N: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Eq. 13: lambda of the votes, the rest of the network's own probability.

    With `knn.adaptive` each record has a lambda of its own, `knn.weight` x nearness x twice the
    network's doubt, at most 1: the votes count where the network is unsure of the codes that it
    gives and has seen such records. Doubt is sum p (1 - p) / sum p over its codes, 0 to 1.
    """
    share_N1 = np.full((len(probs_NK), 1), knn.weight)
    if knn.adaptive:
        doubt_N = (probs_NK * (1.0 - probs_NK)).sum(1) / np.maximum(probs_NK.sum(1), 1e-6)
        near = 1.0 if near_N is None else near_N[:, None]
        share_N1 = np.minimum(share_N1 * near * 2.0 * doubt_N[:, None], 1.0)
    return (share_N1 * votes_NK + (1.0 - share_N1) * probs_NK).astype(np.float32)


def build_graphs(features: Sequence[Any], config: ExtractorConfig) -> list[RecordGraph]:
    """The graphs that an extractor of this shape reads."""
    return [
        build_graph(f, window=config.window, normalise=config.normalise_edges) for f in features
    ]


@torch.inference_mode()
def run_graphs(
    extractor: Extractor, graphs: Sequence[RecordGraph]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (N, K) and readouts (N, H), in the order of `graphs`; no dropout."""
    extractor.eval()
    n_codes, hidden = len(extractor.attend.bias_K), extractor.config.hidden
    probs_NK = np.zeros((len(graphs), n_codes), np.float32)
    z_NH = np.zeros((len(graphs), hidden), np.float32)
    for rows, batch in _minibatches(graphs, device=extractor.attend.bias_K.device):
        extracted: Extracted = extractor(batch)
        probs_NK[rows] = extracted.logits_BK.sigmoid().cpu().numpy()
        z_NH[rows] = extracted.z_BH.cpu().numpy()
    return probs_NK, z_NH


def _minibatches(
    graphs: Sequence[RecordGraph], *, device: torch.device
) -> Iterator[tuple[NDArray[np.int64], GraphBatch]]:
    sizes = [graph.features.n_nodes for graph in graphs]
    for rows in minibatches_by_length(sizes, NODES_PER_MINIBATCH):
        yield rows, pack([graphs[row] for row in rows], device=device)
