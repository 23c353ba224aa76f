from label_config.record import EMR
from training.sentences import sentences
from training.stems import stem_key


def test_each_sentence_leads_back_to_its_words() -> None:
    emr = EMR("e", {"Complaint": "Fever.", "Illness": "Cough of 2.5 days.  Óseos dolores!\n..."})
    read = list(sentences(emr))
    assert [(s.section, s.key) for s in read] == [
        ("Complaint", stem_key("fever")),
        ("Illness", stem_key("cough 2.5 days")),
        ("Illness", stem_key("óseos dolores")),
    ]
    last = read[-1]
    start, end = last.text.span(last.first, last.end - 1)
    assert emr.sections["Illness"][start:end] == "Óseos dolores"


def test_a_text_without_a_content_word_has_no_sentence() -> None:
    assert list(sentences(EMR("e", {"A": "? . of the -"}))) == []
