import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import ConfigError
from sampler.batch import Batch, Serves, ordinal, reason_text


def make_batch(minutes: list[float]) -> Batch:
    n = len(minutes)
    return Batch(np.arange(n) * 10, np.ones(n), np.array(minutes), ((),) * n, np.zeros(n, bool))


@given(st.lists(st.floats(0.5, 30), max_size=40), st.integers(1, 6))
def test_a_split_deals_every_emr_once_and_shares_the_minutes(minutes, coders):
    batch = make_batch(minutes)
    patches = batch.split(coders)
    assert len(patches) == coders
    assert sorted(np.concatenate(patches).tolist()) == batch.rows.tolist()
    loads = [batch.minutes[patch // 10].sum() for patch in patches]
    assert max(loads) - min(loads) <= max(minutes, default=0) + 1e-9


@given(st.integers(1, 40), st.integers(2, 6), st.floats(0, 1))
def test_an_overlap_gives_its_share_to_two_different_coders(size, coders, overlap):
    patches = make_batch([1.0] * size).split(coders, overlap=overlap)
    times = np.bincount(np.concatenate(patches) // 10, minlength=size)
    assert all(len(set(patch.tolist())) == patch.size for patch in patches)
    assert set(times.tolist()) <= {1, 2}
    assert (times == 2).sum() == round(overlap * size)


def test_an_overlap_with_one_coder_is_refused():
    with pytest.raises(ConfigError, match="2 coders"):
        make_batch([1.0]).split(1, overlap=0.5)


def test_a_reason_reads_as_words():
    reason = (Serves(1, 3, 5, 0.9), Serves(0, 2, 5, 0.8))
    assert reason_text(reason, ["E11.9", "I63.9"]) == "3rd of 5 for I63.9; 2nd of 5 for E11.9"
    assert "random" in reason_text((), ["E11.9"])


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (22, "22nd"), (112, "112th")],
)
def test_ordinals(number, word):
    assert ordinal(number) == word
