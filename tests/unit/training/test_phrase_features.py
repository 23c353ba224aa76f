import numpy as np

from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.phrase_features import FEATURES, Rows, make_rows
from training.phrases import PhraseTable, read

CODES = ["E11.9", "I10", "J18.9", "K35.8"]


def coded(emr_id: str, text: str, *marks: tuple[str, str]) -> tuple[EMR, Coding]:
    spans = tuple(
        EvidenceSpan(code, "Illness", text.index(words), text.index(words) + len(words))
        for code, words in marks
    )
    codes = tuple(dict.fromkeys(code for code, _ in marks))
    return EMR(emr_id, {"Illness": text}), Coding(emr_id, codes, "clean", evidence=spans)


def column(rows: Rows, name: str) -> list[float]:
    return rows.x_RF[:, FEATURES.index(name)].tolist()


PAIRS = [
    coded("e1", "chest pain", ("I10", "chest pain")),
    coded("e2", "pain at night", ("K35.8", "pain")),
    coded("e3", "pain at noon", ("K35.8", "pain")),
]


def table(four_codes: Taxonomy) -> PhraseTable:
    return PhraseTable.fit(read(e for e, _ in PAIRS), [c for _, c in PAIRS], four_codes, CODES)


def test_a_longer_phrase_of_another_code_around_it_is_known(four_codes: Taxonomy) -> None:
    rows = make_rows(read([EMR("new", {"Illness": "chest pain"})]), table(four_codes))
    words = [rows.found[place][1].wording for place in rows.place_R]
    inside = dict(zip(words, column(rows, "inside other"), strict=True))
    assert inside == {"pain": 1.0, "chest pain": 0.0}


def test_what_only_the_own_fold_taught_makes_no_row(four_codes: Taxonomy) -> None:
    readings, codings = read(e for e, _ in PAIRS), [c for _, c in PAIRS]
    rows = make_rows(
        readings, table(four_codes), codings=codings, folds_N=np.array([0, 1, 2], dtype=np.int64)
    )
    seen = {
        (int(n), rows.found[p][1].wording) for n, p in zip(rows.emr_R, rows.place_R, strict=True)
    }
    assert (0, "chest pain") not in seen
    assert {(0, "pain"), (1, "pain"), (2, "pain")} <= seen


def test_the_own_fold_is_not_counted(four_codes: Taxonomy) -> None:
    readings, codings = read(e for e, _ in PAIRS), [c for _, c in PAIRS]
    all_in = make_rows(readings, table(four_codes), codings=codings)
    without = make_rows(
        readings, table(four_codes), codings=codings, folds_N=np.array([0, 1, 2], dtype=np.int64)
    )
    assert max(column(without, "log seen")) < max(column(all_in, "log seen"))
    assert all_in.true_R.sum() == 3


def test_the_best_rival_is_another_code_of_the_same_place(four_codes: Taxonomy) -> None:
    pairs = [*PAIRS[1:], coded("e4", "pain in the chest", ("I10", "pain"))]
    both = PhraseTable.fit(read(e for e, _ in pairs), [c for _, c in pairs], four_codes, CODES)
    rows = make_rows(read([EMR("new", {"Illness": "pain"})]), both)
    rivals = dict(zip((CODES[k] for k in rows.code_R), column(rows, "beats rivals"), strict=True))
    assert rivals == {"K35.8": 1.0, "I10": 0.0}


def test_records_without_a_phrase_make_no_rows(four_codes: Taxonomy) -> None:
    rows = make_rows(read([EMR("new", {"Illness": "?"})]), table(four_codes))
    assert rows.x_RF.shape == (0, len(FEATURES))
