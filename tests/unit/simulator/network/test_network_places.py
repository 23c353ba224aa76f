import pytest

from simulator.experiments.network_places import Trials
from training import features
from training.features import FeatureStore


@pytest.mark.parametrize("kind", ["ward", "pool"])
def test_all_emrs_of_a_place_go_through_the_encoder_together(small, tmp_path, monkeypatch, kind):
    """Their features are then the same whichever rows are still to be made."""
    calls: list[int] = []
    encode = features.record_features

    def counted(encoder, records):
        calls.append(len(records))
        return encode(encoder, records)

    monkeypatch.setattr(features, "record_features", counted)
    trials = Trials(True, (5,))
    sizes = (2, 4, 5, 3) if kind == "ward" else (11, 3)
    place = getattr(trials, kind)(tmp_path, sizes, seed=5)
    assert calls == [14]
    emrs = place.data.all_emrs()
    FeatureStore(trials.encoder, tmp_path).features(emrs[::2])
    assert len(emrs) == 14 and calls == [14]
