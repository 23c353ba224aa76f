import numpy as np

from label_config.taxonomy import CodeEntry, Taxonomy
from training.name_calibration import Calibrator, hold_out

TAXONOMY = Taxonomy(
    "t",
    [
        CodeEntry("A1", "red fever", None, "category", ("scarlet rash", "red fever, unspecified")),
        CodeEntry("B2", "blue lips", None, "category"),
        *(CodeEntry(f"Z{i}", f"other matter {i}", None, "category") for i in range(20)),
    ],
)
NAMES = ["red fever", "scarlet rash", "red fever, unspecified", "blue lips"]
OWNERS = np.array([0, 0, 0, 1])


def test_a_reworded_query_cannot_see_its_own_spellings() -> None:
    held = hold_out(NAMES, OWNERS, TAXONOMY, ["A1", "B2"])
    hidden = {
        query: set(columns.tolist())
        for query, columns, reworded in zip(held.queries, held.hidden, held.reworded, strict=True)
        if reworded
    }
    assert hidden == {
        "red fever": {0, 2},
        "scarlet rash": {1},
        "red fever, unspecified": {0, 2},
    }


def test_foreign_names_ask_for_no_code() -> None:
    names = [*NAMES, *(f"blue lips kind {i}" for i in range(20))]
    owners = np.array([*OWNERS, *[1] * 20])
    held = hold_out(names, owners, TAXONOMY, ["A1", "B2"])
    foreign = [q for q, t in zip(held.queries, held.targets, strict=True) if t < 0]
    assert foreign and all(query.startswith("other matter") for query in foreign)


def test_the_calibrator_learns_how_often_a_match_is_right() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(4000)
    features = np.stack([score, score, score, score > 0.99], axis=1).astype(float)
    right = rng.random(4000) < score**2
    confidence = Calibrator.fit(features, right).confidence(features)
    for low in np.arange(0, 1, 0.2):
        inside = (score >= low) & (score < low + 0.2)
        assert abs(confidence[inside].mean() - right[inside].mean()) < 0.08


def test_a_calibrator_with_nothing_to_learn_keeps_its_defaults_and_survives_json() -> None:
    always = Calibrator.fit(np.ones((5, 4)), np.ones(5, dtype=bool))
    assert always == Calibrator()
    assert Calibrator.from_dict(always.to_dict()) == always
