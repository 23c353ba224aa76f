import json

import pytest

from label_config.record import EMR
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_result, build_task
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.acceptance import corrections_by_member

TREE = Taxonomy(
    "small",
    (CodeEntry(c, f"Disease 10% · {c} · type 2 97%", None, "chapter") for c in ("I10", "E11.9")),
)


def coded(number: int, codes: tuple[str, ...], **more: object) -> dict:
    """Names say I10, the word model says E11.9; the lexicon is not sure of either."""
    emr = EMR(f"e{number}", {"Plan": "rest"})
    suggested = SuggestionSet(
        emr.emr_id,
        (
            Suggestion("I10", 0.9, {"names": 0.97, "lexicon": 0.2}),
            Suggestion("E11.9", 0.4, {"sparse": 0.8}),
        ),
        "v1",
    )
    task = build_task(emr, suggested, TREE, batch="b", order=1)
    result = build_result(
        emr, codes, [], candidates=["I10", "E11.9"], principal=None, quality="clean"
    )
    annotation = {"id": number, "result": result, "updated_at": "2026-01-01", **more}
    return json.loads(json.dumps({**task, "id": number, "annotations": [annotation]}))


def test_each_member_is_judged_by_what_it_said_itself():
    found = corrections_by_member(
        [coded(1, ("I10",)), coded(2, ("I10", "E11.9")), coded(3, ()), coded(4, ("E11.9",))]
    )
    assert [m.member for m in found] == ["names", "sparse"]
    names, sparse = found
    assert (names.total.suggested, names.total.accepted, names.total.added) == (4, 2, 2)
    assert names.codes["E11.9"].added == 2
    assert (sparse.codes["E11.9"].suggested, sparse.codes["E11.9"].accepted) == (4, 2)
    assert sparse.codes["I10"].added == 2
    assert names.total.acceptance == pytest.approx(0.5)


def test_one_annotation_of_an_emr_counts_and_skips_do_not():
    again = coded(1, ("I10",), updated_at="2026-01-02")
    [names, _] = corrections_by_member(
        [coded(1, ()), again, coded(2, (), was_cancelled=True), {"annotations": 3}]
    )
    assert (names.total.suggested, names.total.accepted) == (1, 1)


def test_without_an_annotation_nothing_is_said():
    assert corrections_by_member([]) == []
