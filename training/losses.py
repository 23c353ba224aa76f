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
CodesLoss = Literal["bce", "asymmetric", "hill"]

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


def code_loss(
    logits_BK: Tensor,
    targets_BK: Tensor,
    weights_BK: Tensor | None = None,
    *,
    kind: CodesLoss = "bce",
) -> Tensor:
    """Eq. 9: binary cross-entropy, the mean over EMRs and codes; or a loss that forgives gaps.

    `targets_BK` lie in 0 to 1; one in between counts that much as given and the rest as not given.
    `weights_BK` (0 and up) says how much each cell counts: a doubtful noisy code less.
    """
    if kind == "bce":
        return functional.binary_cross_entropy_with_logits(logits_BK, targets_BK, weight=weights_BK)
    given_BK, absent_BK = asymmetric(logits_BK) if kind == "asymmetric" else hill(logits_BK)
    cells_BK = targets_BK * given_BK + (1.0 - targets_BK) * absent_BK
    return (cells_BK if weights_BK is None else weights_BK * cells_BK).mean()


def asymmetric(
    logits_BK: Tensor, *, gamma_given: float = 0.0, gamma_absent: float = 4.0, margin: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Asymmetric loss (Ridnik et al. 2021): what each cell costs if given, if absent.

    -(1 - p)^gamma_given log p and -q^gamma_absent log(1 - q), with q = max(p - margin, 0): absent
    codes that are improbable cost next to nothing. The defaults are the authors'.
    """
    absent_BK = functional.logsigmoid(-logits_BK)
    given_BK = -(gamma_given * absent_BK).exp() * functional.logsigmoid(logits_BK)
    # log(1 - p + margin) at most 0: as a sum of exponentials it stays finite where p rounds to 1
    log_margin = absent_BK.new_tensor(margin).log()
    log_rest_BK = torch.logaddexp(absent_BK, log_margin).clamp_max(0.0)
    # a power below 1 has no derivative at 0, where the logarithm is 0 anyway
    shifted_BK = (logits_BK.sigmoid() - margin).clamp_min(_TINY)
    return given_BK, -(shifted_BK**gamma_absent) * log_rest_BK


def hill(
    logits_BK: Tensor, *, peak: float = 1.5, gamma: float = 2.0, margin: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Hill loss (Zhang et al. 2021): what each cell costs if given, if absent.

    (peak - p) p^2 for an absent code: with a peak of 1.5 its slope is 0 again at p = 1, since a
    code that is absent against all evidence was probably forgotten. For a given code the focal
    margin loss -(1 - p')^gamma log p', p' = sigmoid(logit - margin). The defaults are the authors'.
    """
    probs_BK, lowered_BK = logits_BK.sigmoid(), logits_BK - margin
    doubt_BK = (gamma * functional.logsigmoid(-lowered_BK)).exp()
    return -doubt_BK * functional.logsigmoid(lowered_BK), (peak - probs_BK) * probs_BK**2


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
