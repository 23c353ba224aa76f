import pytest

from training.abbreviations import Abbreviations, fit

POOL = [
    "ALD",
    "childhood cerebral ALD",
    "adrenoleukodystrophy",
    "metachromatic leukodystrophy",
    "MLD",
    "muscular dystrophy",
    "type II ALD",
    "GOUT",
]
KNOWN = ["Alcoholic liver cirrhosis", "Gout", "Chronic obstructive lung disease"]


def test_a_short_form_is_read_as_the_long_form_that_stands_beside_it() -> None:
    learned = Abbreviations.learn(POOL, KNOWN)
    assert learned.readings("MLD") == ("mld", "metachromatic leukodystrophy")
    assert learned.readings("Cerebral ALD.") == ("cerebral ald", "cerebral adrenoleukodystrophy")


def test_words_in_capitals_and_roman_numbers_are_no_short_forms() -> None:
    assert set(Abbreviations.learn(POOL, KNOWN).table) == {"ald", "mld", "alc", "cold", "col"}


def test_initials_of_one_official_name_need_no_pool() -> None:
    learned = Abbreviations.learn([], KNOWN)
    assert learned.readings("COLD") == ("cold", "chronic obstructive lung disease")
    both = Abbreviations.learn([], [*KNOWN, "Common old liver disease"])
    assert both.readings("COLD") == ("cold",)


@pytest.mark.parametrize(
    ("short", "name", "worth"),
    [("hd", "huntington disease", 1.0), ("hd", "hard", 0.625), ("hd", "disease", 0.0)],
)
def test_letters_that_begin_words_count_most(short: str, name: str, worth: float) -> None:
    assert fit(short, name.split(), set()) == worth


def test_a_letter_may_begin_a_part_of_a_word() -> None:
    plain = fit("ald", ["adrenoleukodystrophy"], set())
    parted = fit("ald", ["adrenoleukodystrophy"], {"leukodystrophy", "dystrophy"})
    assert parted == pytest.approx(2.8 / 3)
    assert plain == pytest.approx(0.5)


def test_a_table_survives_being_kept() -> None:
    learned = Abbreviations.learn(POOL, KNOWN)
    assert Abbreviations(learned.table).readings("ald") == learned.readings("ald")
