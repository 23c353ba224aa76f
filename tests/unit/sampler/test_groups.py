import numpy as np
import pytest

from label_config.errors import ConfigError
from sampler import groups
from sampler.groups import near_duplicates


def test_copies_share_a_number_whatever_their_length(monkeypatch):
    monkeypatch.setattr(groups, "ROWS_AT_ONCE", 7)
    vectors = np.random.default_rng(0).normal(size=(30, 16))
    group = near_duplicates(np.concatenate([vectors, 3 * vectors]))
    assert group[:30].tolist() == group[30:].tolist()
    assert np.unique(group).size == 30


def test_near_duplicates_of_one_emr_belong_together():
    angles = np.deg2rad([0, 8, 16, 90])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    group = near_duplicates(vectors, least=0.98)
    assert group[0] == group[1] == group[2] != group[3]


def test_empty_texts_are_like_nothing():
    assert near_duplicates(np.zeros((3, 4))).tolist() == [0, 1, 2]
    assert near_duplicates(np.zeros((0, 4))).size == 0


def test_a_similarity_that_all_reach_is_refused():
    with pytest.raises(ConfigError, match="least"):
        near_duplicates(np.ones((2, 2)), least=0.0)
