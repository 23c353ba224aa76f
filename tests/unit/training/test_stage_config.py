import dataclasses

import pytest

from label_config.errors import ConfigError
from training.extractor import ExtractorConfig
from training.stage_config import NoisyConfig, StagesConfig
from training.stages import train_network


def test_no_preset_has_an_option_that_is_not_asked_for():
    for preset in (StagesConfig.paper(), StagesConfig.best(), StagesConfig.quick()):
        assert (preset.noisy.codes_loss, preset.clean.codes_loss) == ("bce", "bce")
        assert preset.noisy.taught == preset.hierarchy == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"noisy": NoisyConfig(taught=1.0)},
        {"noisy": NoisyConfig(codes=1.0, taught=-1.0)},
        {"noisy": NoisyConfig(codes=1.0, taught=1.0, most_taught=0)},
        {"hierarchy": 0.5},
        {"hierarchy": 1.5, "start_from_names": True, "extractor": ExtractorConfig(attend="words")},
    ],
)
def test_a_teacher_and_a_hierarchy_need_something_to_act_on(wrong):
    with pytest.raises(ConfigError, match="needs"):
        StagesConfig(**wrong)


def test_a_network_that_should_be_taught_needs_a_teacher(ward, four_codes, tiny_encoder):
    config = dataclasses.replace(StagesConfig.paper(), noisy=NoisyConfig(codes=1.0, taught=1.0))
    with pytest.raises(ConfigError, match="teacher"):
        train_network(
            [],
            [],
            [],
            ward[0],
            ward[1],
            codes=["I10"],
            taxonomy=four_codes,
            encoder=tiny_encoder,
            config=config,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"lr": 0.0},
        {"held_back": 0.9},
        {"patience": 0},
        {"weight_decay": -1.0},
        {"start_from_names": True},
    ],
)
def test_settings_that_no_run_can_use_are_refused(wrong):
    with pytest.raises(ConfigError):
        StagesConfig(**wrong)


def test_the_paper_preset_holds_the_papers_numbers():
    paper = StagesConfig.paper()
    assert (paper.raw.epochs, paper.noisy.epochs, paper.clean.epochs) == (100, 100, 100)
    assert (paper.lr, paper.weight_decay, paper.batch) == (1e-3, 1e-3, 64)
    assert (paper.extractor.window, paper.extractor.layers) == (3, 3)
    assert (paper.clean.theta, paper.clean.gamma, paper.clean.delta) == (1.0, 0.5, 0.02)
    assert (paper.knn.k, paper.knn.weight) == (3, 0.3)
    assert paper.noisy.codes == 0.0
