import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.errors import ConfigError, DataError
from sampler import POLICIES, CoverageSampler
from sampler.batch import FEWEST
from sampler.synthetic import PoolConfig, SyntheticPool, make_pool


def make_sampler(pool: SyntheticPool, target: int = 10, **settings) -> CoverageSampler:
    return CoverageSampler(pool.noisy, target, category=pool.category, **settings)


def play(pool: SyntheticPool, sampler: CoverageSampler, size: int = 25) -> list[int]:
    """Annotate batch after batch until the sampler is done; the rows in order."""
    rows = []
    while not sampler.done:
        batch = sampler.query(size)
        sampler.update(batch.rows, pool.labels(batch.rows))
        rows += batch.rows.tolist()
    return rows


def assert_same_state(one: CoverageSampler, two: CoverageSampler) -> None:
    assert one.state_N.tolist() == two.state_N.tolist()
    assert one.clean.counts().tolist() == two.clean.counts().tolist()
    assert (one.probabilities() != two.probabilities()).nnz == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_ends_with_every_reachable_code_met(pool, policy):
    sampler = make_sampler(pool, policy=policy)
    rows = play(pool, sampler)
    assert len(set(rows)) == len(rows) <= 600
    assert set(sampler.status().state) <= {"met", "unreachable"}
    truth = np.asarray(pool.clean[rows].sum(0)).ravel()
    assert sampler.status().clean.tolist() == truth.tolist()


def test_the_same_seed_chooses_the_same_emrs(pool):
    assert play(pool, make_sampler(pool, seed=1)) == play(pool, make_sampler(pool, seed=1))


def test_another_seed_decides_otherwise_between_equals():
    noisy = sp.csr_matrix(np.full((40, 1), 0.9, np.float32))
    one, two = (CoverageSampler(noisy, 20, seed=s).query(10).rows.tolist() for s in (1, 2))
    assert sorted(one) != sorted(two)


@pytest.mark.parametrize("policy", POLICIES)
def test_with_row_keys_the_choice_does_not_depend_on_the_order_of_rows(pool, policy):
    keys = np.array([f"EMR-{i}" for i in range(600)])
    shuffle = np.random.default_rng(0).permutation(600)
    plain = make_sampler(pool, row_keys=keys, policy=policy, random_share=0.1)
    shuffled = CoverageSampler(
        pool.noisy[shuffle],
        10,
        category=pool.category,
        row_keys=keys[shuffle],
        policy=policy,
        random_share=0.1,
    )
    for _ in range(6):
        one, two = plain.query(20), shuffled.query(20)
        assert keys[one.rows].tolist() == keys[shuffle][two.rows].tolist()
        plain.update(one.rows, pool.labels(one.rows))
        shuffled.update(two.rows, pool.labels(shuffle[two.rows]))


OPERATIONS = ("query", "annotate", "skip", "release", "delete", "re-annotate", "quota")


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 2**32)), max_size=25))
@settings(max_examples=25, deadline=None)
def test_counts_equal_a_recount_after_any_history(pool, history):
    sampler, labels, pending, skipped, quota = make_sampler(pool), {}, set(), set(), 10
    for operation, seed in history:
        rng = np.random.default_rng(seed)

        def some(rows, rng=rng):
            return rng.permutation(sorted(rows)).astype(int)[: rng.integers(1, 6)].tolist()

        if operation == "query":
            size = int(rng.integers(1, 15))
            chosen = sampler.query(size).rows.tolist()
            assert len(set(chosen)) == len(chosen) <= size
            assert not set(chosen) & (pending | skipped | set(labels))
            pending |= set(chosen)
        elif operation in ("annotate", "re-annotate"):
            rows = some(pending if operation == "annotate" else labels)
            codes = [rng.choice(20, rng.integers(0, 5)).tolist() for _ in rows]
            sampler.update(rows, codes)
            labels.update(zip(rows, map(set, codes), strict=True))
            pending -= set(rows)
        elif operation == "delete":
            rows = some(labels)
            sampler.remove(rows)
            labels = {row: codes for row, codes in labels.items() if row not in rows}
        elif operation == "quota":
            quota = int(rng.integers(0, 20))
            sampler.set_target(quota)
        else:
            rows = some(pending)
            sampler.release(rows, exclude=operation == "skip")
            skipped |= set(rows) if operation == "skip" else set()
            pending -= set(rows)
        counts = np.bincount([code for codes in labels.values() for code in codes], minlength=20)
        assert sampler.clean.counts().tolist() == counts.tolist()
    recount = [sum(code in codes for codes in labels.values()) for code in range(20)]
    assert sampler.status().clean.tolist() == recount
    assert sampler.pending.tolist() == sorted(pending)

    replayed = make_sampler(pool, quota)
    replayed.hold([*pending, *skipped])
    replayed.release(list(skipped), exclude=True)
    replayed.update(list(labels), [sorted(codes) for codes in labels.values()])
    assert_same_state(sampler, replayed)


def test_of_two_annotations_in_one_report_the_last_counts(pool):
    sampler = make_sampler(pool)
    sampler.update([4, 4], [[0, 1], [2]])
    assert np.flatnonzero(sampler.status().clean).tolist() == [2]


def test_a_deleted_annotation_can_leave_its_emr_with_the_coder(pool):
    sampler = make_sampler(pool)
    sampler.update([3], [[1]])
    sampler.remove([3], pending=True)
    assert sampler.pending.tolist() == [3]
    assert sampler.status().clean.sum() == 0


def test_pending_emrs_count_as_expected_labels(pool):
    sampler = make_sampler(pool)
    before = sampler.status()
    batch = sampler.query(20)
    after = sampler.status()
    expected = np.asarray(sampler.probabilities()[batch.rows].sum(0)).ravel()
    assert after.pending == pytest.approx(expected)
    assert after.needed == pytest.approx(np.maximum(before.needed - expected, 0))


def test_a_code_that_the_pool_lacks_is_named_unreachable_and_does_not_keep_the_run_going():
    noisy = np.zeros((50, 2), np.float32)
    noisy[:, 0], noisy[:2, 1] = 0.95, 0.95
    sampler = CoverageSampler(sp.csr_matrix(noisy), 5)
    status = sampler.status()
    assert status.state.tolist() == ["open", "unreachable"]
    assert status.missing[1] == pytest.approx(5 - sampler.probabilities()[:2, 1].sum())
    while not sampler.done:
        batch = sampler.query(3)
        sampler.update(batch.rows, [[0]] * len(batch))
    assert sampler.status().state.tolist() == ["met", "unreachable"]


@given(seed=st.integers(0, 10_000), target=st.integers(1, 80), noise=st.floats(0, 0.6))
@settings(max_examples=12, deadline=None)
def test_any_quota_ends_within_the_pool_and_with_a_report_of_what_is_missing(seed, target, noise):
    small = make_pool(PoolConfig(n_emrs=80, n_codes=8, codes_per_emr=2.0, noise=noise), seed)
    sampler = make_sampler(small, target)
    rows = play(small, sampler, 20)
    assert len(set(rows)) == len(rows) <= 80
    status = sampler.status()
    assert set(status.state) <= {"met", "unreachable"}
    short = status.clean < target
    assert (status.state[short] == "unreachable").all()
    assert (status.missing[short] > 0).all()
    assert not sampler.query(20).rows.size


def test_batches_shrink_to_a_share_of_what_is_left(pool):
    sampler, sizes = make_sampler(pool, share_left=0.25), []
    while not sampler.done:
        batch = sampler.query(50)
        sampler.update(batch.rows, pool.labels(batch.rows))
        sizes.append(len(batch))
    assert sizes[0] > 2 * FEWEST >= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)


def test_a_floor_still_asks_for_some_emrs_of_an_unreachable_code():
    noisy = np.zeros((50, 2), np.float32)
    noisy[:, 0], noisy[:2, 1] = 0.95, 0.95
    without, floored = (CoverageSampler(sp.csr_matrix(noisy), 5, floor=f) for f in (0, 1))
    assert without.status().needed[1] == 0
    assert floored.status().needed[1] == 1
    assert set(floored.query(10).rows.tolist()) & {0, 1}


def test_reasons_count_up_to_the_target_and_follow_the_batch(pool):
    sampler = make_sampler(pool, 5)
    batch = sampler.query(30)
    reached = np.zeros(20, int)
    for row, reason in zip(batch.rows, batch.reasons, strict=True):
        assert reason
        for serve in reason:
            assert pool.noisy[row, serve.code] > 0
            assert reached[serve.code] <= serve.nth <= serve.target == 5
            reached[serve.code] = serve.nth


def test_a_first_patch_counts_every_code_twice_at_most(pool):
    batch = make_sampler(pool, 30).query(200, at_most=2)
    assert 5 <= len(batch) < 60
    assert max(serve.nth for reason in batch.reasons for serve in reason) <= 30


def test_a_share_of_the_batch_is_drawn_at_random_and_says_so(pool):
    batch = make_sampler(pool, 30, random_share=0.2).query(50)
    assert batch.random.sum() == 10
    assert all(not batch.reasons[i] for i in np.flatnonzero(batch.random))
    assert np.unique(batch.rows).size == 50


def test_minutes_given_are_minutes_saved():
    pool = make_pool(PoolConfig(n_emrs=3000, n_codes=40), seed=1)

    def minutes(**settings) -> float:
        return pool.minutes[play(pool, make_sampler(pool, **settings))].sum()

    assert minutes(minutes=pool.expected_minutes) < 0.97 * minutes()


def test_copies_never_share_a_batch(pool):
    sampler = make_sampler(pool, 30, group=np.arange(600) // 3, random_share=0.2)
    groups = np.concatenate([sampler.query(50).rows // 3 for _ in range(2)])
    assert np.unique(groups).size == groups.size == 100


def test_a_model_that_knows_better_saves_emrs_and_a_model_that_guesses_costs_few():
    pool = make_pool(PoolConfig(n_emrs=1500, n_codes=30, noise=0.5), seed=1)
    rng = np.random.default_rng(0)
    told = pool.clean.multiply(rng.random(pool.clean.shape) < 0.9).tocsr()
    told.data = rng.uniform(0.7, 0.95, told.nnz)
    guessed = sp.random(1500, 30, 0.1, "csr", random_state=rng)
    needs = {
        name: len(play(pool, make_sampler(pool, suggested=suggested)))
        for name, suggested in (("none", None), ("told", told), ("guessed", guessed))
    }
    assert needs["told"] < 0.9 * needs["none"]
    assert needs["guessed"] < 1.15 * needs["none"]


def test_uncertain_emrs_come_first_among_equals():
    noisy = sp.csr_matrix(np.full((40, 1), 0.9, np.float32))
    unsure = np.where(np.arange(40) < 8, 0.9, 0.1)
    batch = CoverageSampler(noisy, 20).query(8, uncertainty=unsure, uncertainty_weight=0.5)
    assert sorted(batch.rows.tolist()) == list(range(8))


def test_a_raised_quota_opens_met_codes_again(pool):
    sampler = make_sampler(pool, 5)
    play(pool, sampler)
    counts = sampler.status().clean
    sampler.set_target(10)
    assert not sampler.done
    assert sampler.status().clean.tolist() == counts.tolist()


def test_explain_lists_needed_codes_weightiest_first(pool):
    sampler = make_sampler(pool)
    row = int(sampler.query(1).rows[0])
    parts = sampler.explain(row)
    weights = [part.probability * part.scarcity for part in parts]
    assert parts and weights == sorted(weights, reverse=True)
    assert all(part.needed > 0 for part in parts)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"noisy": sp.csr_matrix([[1.5]])}, DataError, "confidence"),
        ({"target": [1, 2]}, DataError, "target"),
        ({"target": -1}, ConfigError, "target"),
        ({"minutes": [0.0]}, DataError, "minutes"),
        ({"category": [1, 2]}, DataError, "category needs 1 values"),
        ({"policy": "best"}, ConfigError, "scarcity greedy"),
        ({"random_share": 2.0}, ConfigError, "random_share"),
        ({"min_yield": 0.0}, ConfigError, "min_yield"),
        ({"share_left": 0.0}, ConfigError, "share_left"),
        ({"suggested": sp.csr_matrix([[1.5]])}, DataError, "suggested must lie"),
        ({"suggested": sp.csr_matrix([[0.5, 0.5]])}, DataError, "suggested needs shape"),
    ],
)
def test_what_no_run_can_use_is_refused(wrong, error, message):
    arguments = {"noisy": sp.csr_matrix([[0.5]]), "target": 1, **wrong}
    with pytest.raises(error, match=message):
        CoverageSampler(**arguments)


def test_rows_in_the_wrong_state_are_refused(pool):
    sampler = make_sampler(pool)
    sampler.update([1], [[0]])
    for call, rows in ((sampler.release, [0]), (sampler.remove, [0]), (sampler.hold, [1])):
        with pytest.raises(DataError, match=f"row {rows[0]} "):
            call(rows)
    with pytest.raises(DataError, match="0 to 599, got 600"):
        sampler.update([600], [[0]])
    with pytest.raises(DataError, match="0 to 19, got 20"):
        sampler.update([2], [[20]])
    with pytest.raises(DataError, match="labels of 2 rows"):
        sampler.update([2, 3], [[0]])
    assert sampler.status().clean.sum() == 1
