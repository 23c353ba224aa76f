from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from training.windows import OVERLAP, minibatches_by_length, windows


@given(n_tokens=st.integers(0, 20_000), size=st.integers(8, 510))
@example(n_tokens=510, size=510)
@example(n_tokens=511, size=510)
def test_windows_of_one_length_count_every_token_once(n_tokens, size):
    cut = windows(n_tokens, size)
    assert {w.end - w.start for w in cut} == {cut[0].end}
    assert cut[0].end <= size
    assert (cut[0].start, cut[-1].end) == (0, n_tokens)
    counted = [t for w in cut for t in range(w.keep_from, w.keep_to)]
    assert counted == list(range(n_tokens))
    assert all(w.start <= w.keep_from <= w.keep_to <= w.end for w in cut)


@given(n_tokens=st.integers(511, 20_000))
def test_neighbouring_windows_share_enough_tokens(n_tokens):
    cut = windows(n_tokens, 510)
    pairs = list(pairwise(cut))
    assert all(left.end - right.start >= OVERLAP - 1 for left, right in pairs)
    assert all(left.end - left.keep_to >= OVERLAP // 2 - 1 for left, _ in pairs)


def test_a_text_that_fits_is_one_window():
    assert [(w.start, w.end) for w in windows(510, 510)] == [(0, 510)]
    assert len(windows(511, 510)) == 2


def test_minibatches_hold_like_lengths_within_the_budget_and_every_row_once():
    lengths = [3, 50, 7, 7, 120, 1, 9]
    batches = [rows.tolist() for rows in minibatches_by_length(lengths, 60)]
    assert sorted(row for rows in batches for row in rows) == list(range(7))
    assert batches[0] == [4]
    for rows in batches[1:]:
        assert len(rows) * max(lengths[row] for row in rows) <= 60
