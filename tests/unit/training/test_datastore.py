import numpy as np
import pytest

from label_config.errors import CheckpointError, ConfigError, DataError
from label_config.record import EMR, Coding
from training.datastore import Datastore

CODES = ["E11.9", "I10", "J18.9"]


def case(i: int, *codes: str, text: str = "stable") -> tuple[EMR, Coding]:
    return EMR(f"emr-{i}", {"Illness": text}), Coding(f"emr-{i}", codes, "clean")


def filled(vectors: list[list[float]], codings: list[tuple[str, ...]]) -> Datastore:
    cases = [case(i, *codes) for i, codes in enumerate(codings)]
    emrs, codings_ = [emr for emr, _ in cases], [coding for _, coding in cases]
    return Datastore.build(np.array(vectors, np.float32), emrs, codings_, CODES)


THREE = ([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], [("I10",), ("I10", "E11.9"), ("J18.9",)])


def test_records_almost_alike_are_still_told_apart():
    near, nearer = [1.0, 1e-4], [1.0, 5e-5]
    store = filled([near, nearer], [("I10",), ("J18.9",)])
    assert store.knn_probs(np.array([[1.0, 0.0]], np.float32), 1)[0].tolist() == [0.0, 0.0, 1.0]


def test_an_emr_does_not_vote_on_itself():
    store = filled(*THREE)
    query = np.array([[1.0, 0.0]], np.float32)
    assert store.knn_probs(query, 1)[0].tolist() == [0.0, 1.0, 0.0]
    assert store.knn_probs(query, 1, emr_ids=["emr-0"])[0].tolist() == [1.0, 1.0, 0.0]


def test_nearness_is_about_1_at_the_stores_own_distances_and_0_without_voters():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 4))
    store = filled(vectors.tolist(), [("I10",)] * 60)
    fresh = rng.normal(size=(40, 4)).astype(np.float32)
    assert 0.5 < np.median(store.votes(fresh)[1]) < 2.5
    assert (store.votes(vectors.astype(np.float32), 1)[1] > 2.5).all()
    assert Datastore(CODES, dim=4).votes(fresh)[1].tolist() == [0.0] * 40


def test_an_emr_alone_in_the_store_gets_no_votes():
    store = filled([[1.0, 0.0]], [("I10",)])
    votes = store.knn_probs(np.ones((1, 2), np.float32), 3, emr_ids=["emr-0"])
    assert votes.tolist() == [[0.0, 0.0, 0.0]]


def test_an_empty_store_has_no_votes_and_no_cases():
    store = Datastore(CODES, dim=2)
    assert store.knn_probs(np.ones((2, 2), np.float32), 3).tolist() == [[0.0] * 3] * 2
    assert store.similar(np.ones(2, np.float32), 3) == []


def test_tau_follows_the_scale_of_the_stores_distances():
    rng = np.random.default_rng(0)
    tight = np.ones((40, 5)) + 0.01 * rng.normal(size=(40, 5))
    loose = rng.normal(size=(40, 5))
    taus = [filled(v.tolist(), [("I10",)] * 40).tau for v in (tight, loose)]
    assert taus[0] < 0.05 < taus[1]


def test_an_emr_added_again_is_replaced():
    store = filled(*THREE)
    emr, coding = case(0, "E11.9")
    store.add(np.array([[0.0, -1.0]], np.float32), [emr], [coding])
    assert len(store) == 3
    votes = store.knn_probs(np.array([[0.0, -1.0]], np.float32), 1)
    assert votes[0].tolist() == [1.0, 0.0, 0.0]


def test_an_added_emr_votes_at_once():
    store = filled(*THREE)
    emr, coding = case(9, "J18.9", "A00.0")
    store.add(np.array([[-1.0, 0.0]], np.float32), [emr], [coding])
    assert "emr-9" in store
    votes = store.knn_probs(np.array([[-1.0, 0.1]], np.float32), 1)
    assert votes[0].tolist() == [0.0, 0.0, 1.0]


def test_similar_cases_come_nearest_first_with_the_words_that_they_share():
    texts = [
        "stable. Cough and rusty sputum today. Walks well.",
        "stable. Vomiting since noon.",
        "stable. Rusty nail in the foot.",
    ]
    cases = [case(i, "I10", text=text) for i, text in enumerate(texts)]
    vectors = np.array([[1, 0], [0, 1], [0.7, 0.7]], np.float32)
    store = Datastore.build(vectors, [e for e, _ in cases], [c for _, c in cases], CODES)
    query = EMR("new", {"Illness": "Stable, with rusty sputum."})
    first, second = store.similar(np.array([1.0, 0.1], np.float32), 2, emr=query)
    assert (first.emr_id, second.emr_id) == ("emr-0", "emr-2")
    assert first.similarity > second.similarity > 0
    assert first.shared_words == ("sputum", "rusty")  # rarer first; "stable" says nothing
    assert first.excerpt == "Cough and rusty sputum today."


def test_similar_cases_leave_the_emr_itself_out():
    store = filled(*THREE)
    emr = case(0)[0]
    cases = store.similar(np.array([1.0, 0.0], np.float32), 3, emr=emr)
    assert [c.emr_id for c in cases] == ["emr-1", "emr-2"]


def test_chinese_records_share_pairs_of_characters():
    cases = [case(0, "I10", text="患者因糖尿病入院。"), case(1, "I10", text="发热。")]
    store = Datastore.build(
        np.eye(2, dtype=np.float32), [e for e, _ in cases], [c for _, c in cases], CODES
    )
    query = EMR("new", {"Illness": "既往糖尿病史"})
    (found,) = store.similar(np.array([1.0, 0.0], np.float32), 1, emr=query)
    assert set(found.shared_words) == {"糖尿", "尿病"}


def test_a_store_reads_back_what_was_written(tmp_path):
    store = filled(*THREE)
    store.save(tmp_path)
    loaded = Datastore.load(tmp_path, CODES)
    query = np.array([[0.5, 0.5]], np.float32)
    np.testing.assert_array_equal(loaded.knn_probs(query, 2), store.knn_probs(query, 2))
    emr = EMR("new", {"Illness": "not stable"})
    assert loaded.similar(query[0], 2, emr=emr) == store.similar(query[0], 2, emr=emr)
    assert loaded.tau == store.tau
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".pkl", ".pt", ".bin")]


@pytest.mark.parametrize("name", ["embeddings.safetensors", "emrs.parquet", "datastore.json"])
def test_a_store_without_one_of_its_files_is_refused(tmp_path, name):
    filled(*THREE).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError):
        Datastore.load(tmp_path, CODES)


def test_emrs_and_codings_that_do_not_belong_together_are_refused():
    store = Datastore(CODES, dim=2)
    with pytest.raises(DataError, match="emr-0 came with the coding of emr-1"):
        store.add(np.ones((1, 2), np.float32), [case(0)[0]], [case(1)[1]])
    with pytest.raises(DataError, match="twice"):
        store.add(np.ones((2, 2), np.float32), [case(0)[0]] * 2, [case(0)[1]] * 2)
    with pytest.raises(DataError, match="one embedding"):
        store.add(np.ones((2, 2), np.float32), [case(0)[0]], [case(0)[1]])


@pytest.mark.parametrize(("k", "tau"), [(0, 1.0), (3, 0.0)])
def test_a_vote_that_cannot_be_taken_is_refused(k, tau):
    with pytest.raises(ConfigError, match="got"):
        filled(*THREE).knn_probs(np.ones((1, 2), np.float32), k, tau)
