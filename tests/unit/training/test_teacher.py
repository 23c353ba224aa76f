import numpy as np
import pytest

from label_config.record import EMR, Coding, Diagnosis
from training.teacher import FOLDS, sparse_teacher

WORDS = {"I10": "pressure", "J18.9": "cough"}
CODES = tuple(WORDS)
GIVEN = [["I10"], ["J18.9"], ["I10", "J18.9"], []] * 8


@pytest.fixture
def known() -> tuple[list[EMR], list[Coding]]:
    emrs = [
        EMR(f"e{i}", {"History": " ".join(["seen", *(WORDS[c] for c in codes)])})
        for i, codes in enumerate(GIVEN)
    ]
    codings = [Coding(e.emr_id, tuple(c), "clean") for e, c in zip(emrs, GIVEN, strict=True)]
    return emrs, codings


def test_it_speaks_of_emrs_with_codings_and_of_others(known):
    others = [EMR("r1", {"History": "seen cough"}), EMR("r2", {"History": "seen nothing"})]
    taught = sparse_teacher(*known, others, codes=CODES)
    assert [emr.emr_id for emr in taught.emrs] == [e.emr_id for e in (*known[0], *others)]
    assert taught.probs_NK.shape == (34, 2)
    assert ((taught.probs_NK > 0) & (taught.probs_NK < 1)).all()
    assert ((taught.probs_NK[-2] > 0.5) == [False, True]).all()
    assert taught.probs_NK[-1].max() < 0.5


@pytest.mark.parametrize("row", [0, 5, 31])
def test_what_it_says_of_an_emr_never_comes_from_its_own_codes(known, row):
    emrs, codings = known
    before = sparse_teacher(emrs, codings, [], codes=CODES)
    turned = tuple(code for code in CODES if code not in codings[row].codes)
    codings[row] = Coding(codings[row].emr_id, turned, "clean")
    after = sparse_teacher(emrs, codings, [], codes=CODES)
    np.testing.assert_array_equal(after.probs_NK[row], before.probs_NK[row])
    assert (after.probs_NK != before.probs_NK).any(), "others do learn from them"
    assert before.hash() != after.hash()


def test_an_emr_that_counts_nothing_teaches_nothing(known):
    emrs, codings = known
    weights = np.ones(len(emrs))
    weights[:16] = 1e-9
    wrong = [Coding(c.emr_id, CODES, "noisy") for c in codings[:16]]
    cough = [EMR("r", {"History": "seen cough"})]
    said = sparse_teacher(emrs, [*wrong, *codings[16:]], cough, codes=CODES, weights_N=weights)
    assert said.probs_NK[-1, 1] > 0.5 > said.probs_NK[-1, 0]


@pytest.mark.parametrize(("most", "spoken_of"), [(36, 4), (32, 0), (5, 0), (None, 40)])
def test_of_a_large_pool_the_known_and_a_drawn_part_are_spoken_of(known, most, spoken_of):
    others = [EMR(f"r{i}", {"History": "seen cough"}) for i in range(40)]
    ids = [
        [emr.emr_id for emr in sparse_teacher(*known, others, codes=CODES, most=most, seed=s).emrs]
        for s in (0, 0, 1)
    ]
    drawn = [each[len(known[0]) :] for each in ids]
    assert all(each[: len(known[0])] == [emr.emr_id for emr in known[0]] for each in ids)
    assert all(len(set(each)) == spoken_of for each in drawn)
    assert drawn[0] == drawn[1] == sorted(drawn[0], key=lambda emr_id: int(emr_id[1:]))
    assert (drawn[0] != drawn[2]) == (most == 36), "another seed draws others"


def test_nobody_is_taught_by_too_few_emrs_or_about_emrs_without_text(known):
    emrs, codings = known
    few = sparse_teacher(emrs[: FOLDS - 1], codings[: FOLDS - 1], emrs[10:], codes=CODES)
    assert few.emrs == [] and few.probs_NK.shape == (0, 2)
    silent = EMR("names only", {}, (Diagnosis("Pneumonia"),))
    taught = sparse_teacher([silent, *emrs], [codings[0], *codings], [silent], codes=CODES)
    assert len(taught.emrs) == len(emrs)
