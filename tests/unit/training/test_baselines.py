import numpy as np
import pytest

from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.baselines import BASELINES, Corpus, baseline_rows

CODES = ["E11.9", "I10", "J18.9", "K35.8", "absent"]


@pytest.fixture
def halves(ward: tuple[list[EMR], list[Coding]], four_codes: Taxonomy) -> tuple[Corpus, Corpus]:
    whole = Corpus(*ward, CODES, four_codes)
    return whole.part(np.arange(24)), whole.part(np.arange(24, 48))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_probabilities_for_every_code(
    name: str, halves: tuple[Corpus, Corpus]
) -> None:
    train, test = halves
    probs = BASELINES[name](train, test.emrs)
    assert probs.shape == (24, 5)
    assert ((probs >= 0) & (probs <= 1)).all()
    assert probs[:, 4].max() < 0.1


def test_what_reads_the_text_beats_the_majority(halves: tuple[Corpus, Corpus]) -> None:
    rows = {row["model"]: row for row in baseline_rows(*halves, folds=3)}
    assert list(rows) == list(BASELINES)
    for name in ("L1", "lexicon", "L1 + lexicon"):
        assert rows[name]["micro_f1"] > rows["majority"]["micro_f1"]  # type: ignore[operator]
