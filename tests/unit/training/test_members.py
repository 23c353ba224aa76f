import numpy as np
import pytest

from label_config.record import DIAGNOSIS_SECTION, EMR, Coding, Diagnosis, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from training.lexicon import Lexicon
from training.members import Members, _says_much
from training.similarity import NameMatch
from training.sparse import Span, SparseModel

CODES = ("E11.9", "J18.9")
TAXONOMY = Taxonomy(
    "ward",
    [
        CodeEntry("E11.9", "Type 2 diabetes", None, "category"),
        CodeEntry("J18.9", "Pneumonia", None, "category"),
    ],
)


class Names:
    """A name mapper that knows its names by heart."""

    def map(self, names):
        known = {"sugar disease": "E11.9"}
        return [
            NameMatch(known.get(n), 0.9, ((known[n], 0.9),) if n in known else ()) for n in names
        ]


def emr(number: int, *, cough: bool) -> EMR:
    story = "cough with rusty sputum" if cough else "thirst and polyuria"
    return EMR(
        f"e{number}",
        {"Chief complaint": f"{story} for {number + 2} days", "Plan": " ", "Course": "stable"},
        (Diagnosis("sugar disease"),),
    )


def members() -> Members:
    emrs = [emr(n, cough=n % 2 == 0) for n in range(20)]
    targets_NK = np.array([[n % 2 == 1, n % 2 == 0] for n in range(20)])
    sparse = SparseModel.fit([e.long_text for e in emrs], targets_NK, CODES)
    return Members(Names(), Lexicon.fit([], [], TAXONOMY, CODES), sparse)  # type: ignore[arg-type]


def cited(record: EMR, spans: list[EvidenceSpan]) -> list[tuple[str, str]]:
    return [(s.section, record.text_of(s.section)[s.start : s.end]) for s in spans]


def test_a_code_that_no_name_in_the_text_explains_is_explained_by_few_strong_words():
    record = emr(0, cough=True)
    spans = members().evidence(record, CODES)["J18.9"]
    assert 1 <= len(spans) <= 3
    assert all(section == "Chief complaint" for section, _ in cited(record, spans))
    assert any("cough" in words or "sputum" in words for _, words in cited(record, spans))
    assert not any(words.isdigit() for _, words in cited(record, spans))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("her to", False),
        ("12 of", False),
        ("tos", True),
        ("TB", True),
        ("咳嗽", True),
        ("of it", False),
    ],
)
def test_linking_words_alone_explain_nothing(words, shown):
    assert _says_much(words, Span(0, len(words), 1.0)) is shown


def test_a_name_in_the_text_explains_its_code_alone():
    record = EMR("e", {"Course": "cough with rusty sputum; Pneumonia confirmed"})
    spans = members().evidence(record, CODES)["J18.9"]
    assert cited(record, spans) == [("Course", "Pneumonia")]


def test_a_diagnosis_name_and_the_words_of_the_text_stand_together():
    record = emr(1, cough=False)
    found = cited(record, members().evidence(record, CODES)["E11.9"])
    assert (DIAGNOSIS_SECTION, "sugar disease") in found
    assert any(section == "Chief complaint" for section, _ in found)


def test_a_coder_s_highlight_becomes_the_explanation():
    speakers = members()
    record = emr(0, cough=True)
    text = record.sections["Chief complaint"]
    start = text.index("rusty sputum")
    mark = EvidenceSpan("J18.9", "Chief complaint", start, start + len("rusty sputum"))
    speakers.lexicon.learn(record, Coding("e0", ("J18.9",), "clean", evidence=(mark,)))
    other = emr(4, cough=True)
    spans = speakers.evidence(other, CODES)["J18.9"]
    assert cited(other, spans) == [("Chief complaint", "rusty sputum")]
