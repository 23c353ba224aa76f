"""The contrastive losses of the three stages, finite on every minibatch.

Shapes: B records, D dimensions, K codes. Each loss equals the paper's formula wherever that is
defined; where it is not (an EMR that shares no code with its minibatch, two equal EMRs, a
minibatch of one), the record is left out of the mean or its gradient is zero.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Overlap = Literal["count", "jaccard"]

_TINY = 1e-6


def info_nce(readout_BD: Tensor, summary_BD: Tensor, *, tau: float) -> Tensor:
    """Eq. 4: each record's graph readout must find the encoder's summary of the same record.

    Cosine similarity over `tau`; the other records of the minibatch are the negatives.
    """
    similarity_BB = unit(readout_BD) @ unit(summary_BD).T / tau
    own = torch.arange(len(similarity_BB), device=similarity_BB.device)
    return functional.cross_entropy(similarity_BB, own)


def label_contrastive(
    z_BD: Tensor,
    targets_BK: Tensor,
    *,
    tau: float,
    overlap: Overlap = "count",
    prototypes_KD: Tensor | None = None,
) -> Tensor:
    """Eq. 5-8: EMRs that share codes are drawn together, by the share of codes in common.

    loss_i = -sum_j beta_ij log( exp(-d_ij / tau) / sum_k exp(-d_ik / tau) ), j and k over the
    others, d Euclidean between L2-normalised z; the mean runs over EMRs that share a code with
    another one. Zero where none does. With `prototypes_KD`, one point per code, each point counts
    as one more EMR with that code alone: an EMR that shares its codes with no other still learns.
    """
    n = len(z_BD)
    if prototypes_KD is not None:
        own_KK = torch.eye(len(prototypes_KD), dtype=targets_BK.dtype, device=z_BD.device)
        targets_BK = torch.cat([targets_BK, own_KK])
    # M: the minibatch, then the prototypes
    beta_BM = overlap_weights(targets_BK, kind=overlap)[:n]
    valid_B = beta_BM.sum(1) > 0
    if not bool(valid_B.any()):
        return z_BD.sum() * 0.0
    # the pair of a record with itself goes first: the root has no derivative at distance 0
    others_BM = ~torch.eye(n, len(targets_BK), dtype=torch.bool, device=z_BD.device)
    z_unit_BD = unit(z_BD)
    z_MD = z_unit_BD if prototypes_KD is None else torch.cat([z_unit_BD, unit(prototypes_KD)])
    gaps = (z_unit_BD[:, None] - z_MD[None])[others_BM].view(n, len(z_MD) - 1, -1)
    distance = torch.linalg.vector_norm(gaps, dim=-1)
    log_share = functional.log_softmax(-distance / tau, dim=1)
    loss_B = -(beta_BM[others_BM].view(n, len(z_MD) - 1) * log_share).sum(1)
    return loss_B[valid_B].mean()


def overlap_weights(targets_BK: Tensor, *, kind: Overlap = "count") -> Tensor:
    """Eq. 5-6: beta_ij = C_ij / sum_k C_ik over the other EMRs; shape (B, B), diagonal 0.

    C_ij is the number of codes in common, or with "jaccard" its share of both EMRs' codes. A row
    sums to 1, or to 0 for an EMR that shares no code.
    """
    shared_BB = targets_BK @ targets_BK.T
    if kind == "jaccard":
        sizes_B = targets_BK.sum(1)
        union_BB = sizes_B[:, None] + sizes_B[None] - shared_BB
        shared_BB = shared_BB / union_BB.clamp_min(_TINY)
    shared_BB = shared_BB - torch.diag(torch.diagonal(shared_BB))
    return shared_BB / shared_BB.sum(1, keepdim=True).clamp_min(_TINY)


def code_loss(logits_BK: Tensor, targets_BK: Tensor, weights_BK: Tensor | None = None) -> Tensor:
    """Eq. 9: binary cross-entropy, the mean over EMRs and codes.

    `weights_BK` (0 and up) says how much each cell counts: a doubtful noisy code less.
    """
    return functional.binary_cross_entropy_with_logits(logits_BK, targets_BK, weight=weights_BK)


def evidence_loss(attention_BKS: Tensor, marked_P3: Tensor) -> Tensor:
    """Each code's attention should lie on the words that a coder marked for it.

    -log of the attention on marked words, the mean over (EMR, code) pairs with a mark; zero
    without any. `marked_P3` lists the marked (EMR, code, node) triples.
    """
    if not len(marked_P3):
        return attention_BKS.sum() * 0.0
    records, codes, nodes = marked_P3.unbind(1)
    n_codes = attention_BKS.shape[1]
    _, pair_P = torch.unique(records * n_codes + codes, return_inverse=True)
    on_evidence = attention_BKS.new_zeros(int(pair_P.max()) + 1)
    on_evidence = on_evidence.index_add(0, pair_P, attention_BKS[records, codes, nodes])
    return -on_evidence.clamp_min(_TINY).log().mean()


def unit(z_BD: Tensor) -> Tensor:
    """L2-normalised rows; a row of zeros stays zero. Safe for very large and very small rows."""
    largest_B1 = z_BD.detach().abs().amax(1, keepdim=True).clamp_min(_TINY)
    return functional.normalize(z_BD / largest_B1, dim=1, eps=_TINY)
