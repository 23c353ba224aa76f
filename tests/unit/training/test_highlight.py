from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.record import EMR, EvidenceSpan
from training.highlight import merge_evidence

TEXT = "The patient has community-acquired pneumonia (right lung), treated."
RECORD = EMR("e1", {"Illness": TEXT, "Course": "糖尿病史十年。"})


def span(
    words: str, code: str = "J18.9", score: float = 1.0, section: str = "Illness"
) -> EvidenceSpan:
    start = RECORD.sections[section].index(words)
    return EvidenceSpan(code, section, start, start + len(words), score)


def quoted(spans: tuple[EvidenceSpan, ...]) -> list[str]:
    return [RECORD.text_of(s.section)[s.start : s.end] for s in spans]


def test_overlaps_of_one_code_join_and_keep_the_best_score() -> None:
    merged = merge_evidence(
        RECORD, [span("acquired pneumonia", score=0.4), span("pneumonia (right")]
    )
    assert quoted(merged) == ["acquired pneumonia (right"]
    assert merged[0].score == 1.0


def test_two_codes_may_share_their_text() -> None:
    merged = merge_evidence(RECORD, [span("pneumonia"), span("pneumonia", code="J96.0")])
    assert [s.code for s in merged] == ["J18.9", "J96.0"]


def test_cut_words_are_completed_and_punctuation_is_left_out() -> None:
    assert quoted(merge_evidence(RECORD, [span("neumonia (")])) == ["pneumonia"]
    assert quoted(merge_evidence(RECORD, [span("尿病", section="Course")])) == ["尿病"]


def test_weak_spans_and_those_beyond_the_limit_are_left_out() -> None:
    spans = [span("pneumonia"), span("treated", score=0.2), span("right lung", score=0.9)]
    assert quoted(merge_evidence(RECORD, spans)) == ["pneumonia", "right lung"]
    assert quoted(merge_evidence(RECORD, spans, at_most=1)) == ["pneumonia"]


def test_punctuation_alone_and_places_outside_the_text_are_no_evidence() -> None:
    beyond = EvidenceSpan("J18.9", "Illness", 500, 510)
    assert merge_evidence(RECORD, [span(" ("), beyond]) == ()
    signs = EMR("e2", {"Illness": "BP --- +++ / • * … —"})
    alone = [EvidenceSpan("I10", "Illness", i, i + 3) for i in range(3, 18)]
    assert merge_evidence(signs, alone) == ()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 70), st.integers(1, 20), st.sampled_from("AB"), st.floats(0, 1)),
        max_size=12,
    )
)
def test_spans_of_one_code_never_overlap(raw: list[tuple[int, int, str, float]]) -> None:
    spans = [EvidenceSpan(code, "Illness", start, start + n, s) for start, n, code, s in raw]
    merged = merge_evidence(RECORD, spans)
    for code in "AB":
        own = sorted((s.start, s.end) for s in merged if s.code == code)
        assert all(0 <= a < b <= len(TEXT) for a, b in own)
        assert all(one[1] <= other[0] for one, other in pairwise(own))
