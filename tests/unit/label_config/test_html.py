"""The record as HTML: what is shown, where a region lies, and back."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from label_config.errors import DataError
from label_config.html import RecordPage, shown
from label_config.record import DIAGNOSIS_SECTION, EMR, Diagnosis

EMR_1 = EMR(
    "EMR-1",
    {"Chief complaint": "Weakness 😀 of the left arm.", "History": "BP 182/104 & <b>more</b>"},
    (Diagnosis("Stroke"), Diagnosis("Hypertension")),
)
TEXTS = st.text(min_size=1, max_size=60).filter(str.strip)


class Reader(HTMLParser):
    """The texts of a page's nodes, as a browser would build them, and the tags it would open."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.nodes: list[tuple[str, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert attrs == []

    def handle_data(self, data: str) -> None:
        self.nodes.append((self.tags[-1], data))


@given(
    st.dictionaries(TEXTS.filter(lambda t: t != DIAGNOSIS_SECTION), TEXTS, min_size=1, max_size=4)
)
def test_no_text_can_open_a_tag_or_change_the_count_of_characters(sections: dict[str, str]) -> None:
    emr = EMR("EMR-1", sections)
    reader = Reader(RecordPage(emr).html)
    assert set(reader.tags) == {"div", "section", "h4", "p"}
    texts = [text for tag, text in reader.nodes if tag == "p"]
    assert [len(t) for t in texts] == [len(t) for _, t in emr.texts()]
    assert texts == [shown(t) for _, t in emr.texts()]


@given(TEXTS, st.data())
def test_a_region_leads_back_to_its_span(text: str, data: st.DataObject) -> None:
    emr = EMR("EMR-1", {"First": "😀😀", "Second": text}, (Diagnosis("x"),))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    assume(text[start:end].strip())
    page = RecordPage(emr)
    region = page.region("Second", start, end)
    assert page.spans(region) == [("Second", start, end)]
    whole = "".join(piece for _, piece in Reader(page.html).nodes)
    around = region["globalOffsets"]
    assert whole[around["start"] : around["end"]] == shown(text)[start:end] == region["text"]


def test_offsets_inside_a_node_count_utf16_units_and_global_ones_code_points() -> None:
    start = EMR_1.sections["Chief complaint"].index("left arm")
    region = RecordPage(EMR_1).region("Chief complaint", start, start + 8)
    assert region["start"] == region["end"] == "/div[1]/section[1]/p[1]/text()[1]"
    assert (region["startOffset"], region["endOffset"]) == (start + 1, start + 9)
    assert region["globalOffsets"]["start"] == len("Chief complaint") + start
    assert region["text"] == "left arm"


def test_diagnosis_names_are_the_last_section() -> None:
    start = EMR_1.diagnosis_text.index("Hypertension")
    region = RecordPage(EMR_1).region(DIAGNOSIS_SECTION, start, start + 12)
    assert region["start"] == "/div[1]/section[3]/p[1]/text()[1]"
    assert region["text"] == "Hypertension"


def test_empty_sections_are_neither_shown_nor_counted() -> None:
    page = RecordPage(EMR("EMR-1", {"Empty": " ", "History": "Cough"}))
    assert page.region("History", 0, 5)["start"] == "/div[1]/section[1]/p[1]/text()[1]"
    with pytest.raises(DataError, match="shows no section 'Empty'"):
        page.region("Empty", 0, 1)


def test_a_selection_over_two_sections_becomes_one_span_in_each() -> None:
    spans = RecordPage(EMR_1).spans(
        {
            "start": "/div[1]/section[1]/p[1]/text()[1]",
            "startOffset": 20,
            "end": "/div[1]/section[2]/p[1]/text()[1]",
            "endOffset": 2,
        }
    )
    first = EMR_1.sections["Chief complaint"]
    assert spans == [("Chief complaint", 19, len(first)), ("History", 0, 2)]


@pytest.mark.parametrize(
    ("end", "offset", "expected"),
    [
        ("/div[1]/section[2]/h4[1]/text()[1]", 3, ("Chief complaint", 0, 27)),
        ("/div[1]/section[2]/h4[1]", 0, ("Chief complaint", 0, 27)),
        ("/div[1]/section[1]/p[1]", 1, ("Chief complaint", 0, 27)),
        ("/div[1]/section[1]", 2, ("Chief complaint", 0, 27)),
        ("/div[1]", 1, ("Chief complaint", 0, 27)),
    ],
)
def test_a_selection_that_ends_on_an_element_covers_the_text_before_it(
    end: str, offset: int, expected: tuple[str, int, int]
) -> None:
    start = {"start": "/div[1]/section[1]/p[1]/text()[1]", "startOffset": 0}
    assert RecordPage(EMR_1).spans({**start, "end": end, "endOffset": offset}) == [expected]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"start": "/x", "startOffset": 0, "end": "/x", "endOffset": 2},
        {"start": "/div[1]/section[9]/p[1]/text()[1]", "startOffset": 0},
        {"start": "/div[1]/section[0]/p[1]/text()[1]", "startOffset": 0},
        {"startOffset": True},
        {"startOffset": -1},
        {"startOffset": "0"},
        {"endOffset": 999},
        {"startOffset": 3, "endOffset": 3},
        {"startOffset": 5, "endOffset": 3},
    ],
)
def test_a_region_that_lies_nowhere_is_refused(value: dict[str, object]) -> None:
    xpath = "/div[1]/section[1]/p[1]/text()[1]"
    good: dict[str, object] = {"start": xpath, "startOffset": 0, "end": xpath, "endOffset": 4}
    with pytest.raises(DataError, match="region"):
        RecordPage(EMR_1).spans({**good, **value} if value else {})


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 3), (0, 28)])
def test_a_span_outside_the_text_makes_no_region(start: int, end: int) -> None:
    with pytest.raises(DataError, match=r"must lie in 0\.\.27"):
        RecordPage(EMR_1).region("Chief complaint", start, end)


def test_blanks_alone_make_no_region() -> None:
    with pytest.raises(DataError, match="only blanks"):
        RecordPage(EMR_1).region("History", 2, 3)


def test_characters_that_a_browser_would_change_are_replaced_one_for_one() -> None:
    assert shown("a\r\nb\rc\0d\ud800") == "a \nb\nc\ufffdd\ufffd"
    assert not re.search("[\r\0]", html.unescape(RecordPage(EMR("E", {"S": "a\r\n\0"})).html))
