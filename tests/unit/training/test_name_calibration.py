import numpy as np

from label_config.taxonomy import CodeEntry, Taxonomy
from training.name_calibration import hold_out

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


def test_the_choice_that_finds_most_codes_wins_although_the_name_itself_is_hidden() -> None:
    held = hold_out(NAMES, OWNERS, TAXONOMY, ["A1", "B2"])
    blind = np.zeros((len(held.queries), len(NAMES)), dtype=np.float32)
    knowing = blind.copy()
    for q, target in enumerate(held.targets):
        knowing[q, target == OWNERS] = 0.5
    assert held.best({0.0: blind - 0.1 * np.arange(4)[::-1], 1.0: knowing}, OWNERS) == 1.0
