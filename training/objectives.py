"""What each stage minimises: eq. 4 on raw EMRs, eq. 5-8 on noisy ones, eq. 10 on clean ones.

Shapes: B records of a minibatch, K codes, P marked words.
"""

from __future__ import annotations

from torch import Tensor

from training.extractor import Extracted
from training.losses import code_loss, evidence_loss, info_nce, label_contrastive
from training.stage_config import CleanConfig, NoisyConfig, RawConfig


def raw_objective(said: Extracted, config: RawConfig) -> Tensor:
    """Eq. 4: the readout of a record against the encoder's summary of it."""
    return info_nce(said.z_BH, said.summary_BH, tau=config.tau)


def noisy_objective(
    said: Extracted, targets_BK: Tensor, weights_BK: Tensor, config: NoisyConfig
) -> Tensor:
    """Eq. 5-8 on the noisy codes, with `config.codes` of the loss over codes.

    Targets may be probabilities; EMRs share the codes that are more probable than not.
    """
    loss = config.contrastive * label_contrastive(
        said.z_BH,
        (targets_BK >= 0.5).to(targets_BK),
        tau=config.tau,
        overlap=config.overlap,
        prototypes_KD=said.prototypes_KH,
    )
    if config.codes:
        loss = loss + config.codes * code_loss(
            said.logits_BK, targets_BK, weights_BK, kind=config.codes_loss
        )
    return loss


def clean_objective(
    said: Extracted, targets_BK: Tensor, marked_P3: Tensor, config: CleanConfig, raw: RawConfig
) -> Tensor:
    """Eq. 10: theta * eq. 9 + gamma * eq. 5-8 + delta * eq. 4, and the coders' evidence."""
    loss = (
        config.theta * code_loss(said.logits_BK, targets_BK, kind=config.codes_loss)
        + config.gamma
        * label_contrastive(
            said.z_BH,
            targets_BK,
            tau=config.tau,
            overlap=config.overlap,
            prototypes_KD=said.prototypes_KH,
        )
        + config.delta * raw_objective(said, raw)
    )
    if config.evidence:
        loss = loss + config.evidence * evidence_loss(said.attention_BKS, marked_P3)
    return loss
