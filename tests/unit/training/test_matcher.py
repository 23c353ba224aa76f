from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from training.matcher import Match, Matcher, longest

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=3).map(" ".join)


def test_only_whole_words_match() -> None:
    found = list(Matcher(["fever"]).find("feverish fever, fevers"))
    assert found == [Match(9, 14, "fever")]


def test_words_may_begin_anywhere_in_chinese() -> None:
    assert list(Matcher(["糖尿病"]).find("患糖尿病十年")) == [Match(1, 4, "糖尿病")]


def test_the_longest_of_overlapping_matches_wins() -> None:
    text = "type 2 diabetes mellitus"
    matches = Matcher(["diabetes", "type 2 diabetes", "mellitus"]).find(text)
    assert [m.pattern for m in longest(matches)] == ["type 2 diabetes", "mellitus"]


def test_a_longer_match_that_is_not_kept_leaves_room() -> None:
    matches = Matcher(["diabetes", "type 2 diabetes"]).find("type 2 diabetes")
    assert [m.pattern for m in longest(matches, lambda m: m.pattern != "type 2 diabetes")] == [
        "diabetes"
    ]


def test_strings_can_be_added_later() -> None:
    matcher = Matcher()
    assert list(matcher.find("fever")) == []
    matcher.add(["fever"])
    assert [m.pattern for m in matcher.find("fever")] == ["fever"]
    assert "fever" in matcher


@settings(deadline=None, max_examples=100)
@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=8).map(" ".join))
def test_longest_matches_are_real_and_never_overlap(patterns: list[str], text: str) -> None:
    found = longest(Matcher(patterns).find(text))
    assert all(text[m.start : m.end] == m.pattern for m in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
