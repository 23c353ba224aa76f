import numpy as np

from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.lexicon import LexiconConfig
from training.out_of_fold import draw_folds, lexicon_scores, targets

Ward = tuple[list[EMR], list[Coding]]
CODES = ["E11.9", "I10", "J18.9", "K35.8"]


def test_targets_ignore_codes_outside_the_set() -> None:
    codings = [Coding("a", ("I10", "Z99"), "clean"), Coding("b", (), "clean")]
    assert targets(codings, ["E11.9", "I10"]).tolist() == [[False, True], [False, False]]


def test_folds_are_even_and_repeat_by_seed() -> None:
    folds = draw_folds(23, 5, seed=1)
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
    assert (folds == draw_folds(23, 5, seed=1)).all()
    assert (folds != draw_folds(23, 5, seed=2)).any()


def test_the_lexicon_is_never_asked_about_an_emr_that_taught_it(
    four_codes: Taxonomy, ward: Ward
) -> None:
    emrs, codings = ward
    alone = EMR("x", {"Text": "a sign that no other record has"})
    taught = Coding("x", ("I10",), "clean")
    records, codes = [*emrs[:7], alone], [*codings[:7], taught]
    noisy = Coding("x", ("I10",), "noisy")
    scores = lexicon_scores(
        records,
        codes,
        np.arange(8) % 4,
        four_codes,
        CODES,
        config=LexiconConfig(),
        also=([alone], [noisy]),
    )
    assert not scores[-1].any()
    assert scores[:7].any()
