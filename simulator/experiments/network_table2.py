"""Experiment: what raw and noisy EMRs are worth to the network (the paper's table 2)."""

from __future__ import annotations

from collections.abc import Sequence

from label_config.measured import Measured, Progress
from simulator.experiments.network_trial import Setting, compare
from training.stages import StagesConfig


def run(quick: bool, seeds: Sequence[int], progress: Progress | None = None) -> Measured:
    """Three stages, without noisy, without raw, without both.

    The paper has micro-F1 fall by 0.134 without noisy EMRs and by 0.012 without raw ones. --quick
    takes the preset `quick`; else `best`, and the paper's own settings beside it.
    """
    settings = ablations(StagesConfig.quick() if quick else StagesConfig.best())
    if not quick:
        paper = ablations(StagesConfig.paper())
        settings |= {f"{name}, as printed": setting for name, setting in paper.items()}
    return compare(settings, quick=quick, seeds=seeds, progress=progress)


def ablations(config: StagesConfig) -> dict[str, Setting]:
    """The rows of table 2 for one preset."""
    return {
        "three stages": Setting(config),
        "without noisy": Setting(config, noisy=False),
        "without raw": Setting(config, raw=False),
        "without both": Setting(config, raw=False, noisy=False),
    }
