import re

import pytest

from label_config.errors import ConfigError, UnknownCode
from label_config.files import data_hash
from simulator.hospital import Hospital
from simulator.patient import Population
from simulator.phrase import stems_of

SEAMS = re.compile(
    r"\b(\w+) \1\b(?! \d)|  | [,.;]|[,;:]\.|\.\.|[{}<]\w|\b(?:and|or)\."
    r"|\b1 (?:years|months|weeks|days|hours|times)\b"
)


@pytest.fixture(scope="module")
def wide(pack):
    return list(Hospital(pack, codes=600, seed=5).emrs(400))


def test_the_same_index_gives_the_same_emr_however_it_is_reached(hospital, pack):
    one_by_one = [hospital.emr(i) for i in (7, 5, 6)]
    together = {s.emr.emr_id: s for s in Hospital(pack, codes=50, seed=3).emrs(3, start=5)}
    assert all(together[s.emr.emr_id] == s for s in one_by_one)


def test_another_seed_gives_other_emrs(hospital, pack):
    other = Hospital(pack, codes=50, seed=4)
    assert data_hash([s.gold for s in hospital.emrs(20)]) != data_hash(
        [s.gold for s in other.emrs(20)]
    )


def test_every_evidence_span_lies_in_its_section_and_names_a_gold_code(hospital):
    for simulated in hospital.emrs(200):
        for span in simulated.gold.evidence:
            text = simulated.emr.text_of(span.section)[span.start : span.end]
            assert text and text == text.strip()
            assert span.code in simulated.gold.codes


def test_a_span_of_full_score_reads_as_a_name_of_its_code(hospital, pack):
    for simulated in hospital.emrs(100):
        for span in simulated.gold.evidence:
            if span.score == 1.0:
                leaf = pack.by_code[span.code][1]
                names = [leaf.title, *(n for p in leaf.names for n in p.a)]
                text = simulated.emr.text_of(span.section)[span.start : span.end].lower()
                assert any(name.lower() in text for name in names)


def test_sex_and_age_fit_every_code(hospital, pack):
    for simulated in hospital.emrs(300):
        for code in simulated.gold.codes:
            family, _ = pack.by_code[code]
            assert family.fits(simulated.emr.sex, simulated.emr.age + 0.99) or family.fits(
                simulated.emr.sex, simulated.emr.age
            )


def test_some_patients_come_again_with_the_same_chronic_codes_and_history(hospital):
    by_patient = {}
    for simulated in hospital.emrs(100):
        by_patient.setdefault(simulated.emr.patient_id, []).append(simulated)
    returning = [visits for visits in by_patient.values() if len(visits) > 1]
    assert returning
    for first, *later in returning:
        for other in later:
            assert first.emr.sex == other.emr.sex
            assert other.emr.age >= first.emr.age


def test_a_hospital_writes_in_its_own_bank_only(pack):
    a = Hospital(pack, codes=50, seed=1, bank="A")
    b = Hospital(pack, codes=50, seed=1, bank="B")
    frames_a = {f.parts[0] for fs in pack.wording.frames["A"].values() for f in fs}
    frames_b = {f.parts[0] for fs in pack.wording.frames["B"].values() for f in fs}
    shared = {text for text in frames_a & frames_b if len(text) > 12}
    assert not shared
    assert next(a.emrs(1)).emr.long_text != next(b.emrs(1)).emr.long_text


def test_an_unknown_profile_is_refused(pack):
    with pytest.raises(ConfigError, match="profile must be one of"):
        Hospital(pack, profile="xyz")


def test_a_foreign_code_is_refused(pack):
    with pytest.raises(UnknownCode, match="no leaf"):
        Hospital(pack, codes=["I10", "X99"])


def test_pregnancy_and_injury_come_only_with_a_reason_that_fits(pack, wide):
    for simulated in wide:
        first, *others = [pack.by_code[code][0] for code in simulated.gold.codes]
        for family in others:
            if family.chapter in "OST":
                linked = family.id in first.odds or first.id in family.odds
                assert linked or family.chapter == first.chapter


def test_an_acute_state_is_never_told_as_a_long_known_disease(hospital):
    for number in range(300):
        patient = hospital.population.patient(number, hospital._rng("patient", number))
        assert not any(c.known and c.leaf.acute for c in patient.chronic)


def test_nobody_denies_a_disease_that_is_coded(hospital):
    for simulated in hospital.emrs(300):
        if any(code.startswith(("E10", "E11")) for code in simulated.gold.codes):
            past = simulated.emr.sections["Past history"].lower()
            denials = [s for s in past.split(".") if "denie" in s or "no h" in s]
            assert not any("diabetes" in sentence for sentence in denials)


def test_no_sentence_shows_the_seams_of_its_template(wide):
    for simulated in wide:
        for text in simulated.emr.sections.values():
            found = SEAMS.search(text)
            assert found is None, text[max(0, found.start() - 40) : found.end() + 40]


def test_a_pregnant_woman_takes_no_medicine_that_is_withheld_from_her(pack):
    codes = ["O34.211", "O24.410", "I10", "E78.5", "D25.1", "D25.9", "M06.9", "G40.909", "K21.9"]
    ward = Hospital(pack, codes=[code for code in codes if code in pack.by_code], seed=6)
    withheld = pack.wording.withheld["codeo"]
    expecting = [s for s in ward.emrs(300) if any(c.startswith("O") for c in s.gold.codes)]
    assert expecting
    for simulated in expecting:
        past = simulated.emr.sections["Past history"]
        taken = re.findall(r"(?:takes|treated with|medication:|on) ([^.]*)", past)
        assert withheld.isdisjoint(stems_of(" ".join(taken)))


def test_a_child_is_not_given_an_adults_dose(pack):
    ward = Hospital(pack, codes=["B01.9", "J03.90", "J18.9", "K35.80", "A09"], seed=7)
    doses = re.compile(r"\d+(?:\.\d+)? (?:g|mg) (?:daily|twice|every|three|at night)")
    children = [s for s in ward.emrs(300) if s.emr.age < 15 and s.gold.codes[0] != "B01.9"]
    assert children
    for simulated in children:
        for span in simulated.gold.evidence:
            family, _ = pack.by_code[span.code]
            text = simulated.emr.text_of(span.section)[span.start : span.end]
            assert family.age.mean < 15 or not doses.search(text)


def test_a_vital_sign_is_evidence_only_outside_its_normal_range(wide):
    for simulated in wide:
        for span in simulated.gold.evidence:
            text = simulated.emr.text_of(span.section)[span.start : span.end]
            if found := re.fullmatch(r"P (\d+)(?: bpm)?", text):
                assert simulated.emr.age < 15 or not 60 <= int(found[1]) <= 100


def test_whoever_is_coded_as_obese_weighs_as_much(pack):
    ward = Hospital(pack, codes=["E66.813", "E66.9", "I10", "M81.0"], seed=8)
    weights = [
        int(found[1])
        for s in ward.emrs(200)
        if s.emr.age >= 18
        and "E66.813" in s.gold.codes
        and (found := re.search(r"weight (\d+)", s.emr.sections.get("Specialist condition", "")))
    ]
    assert weights
    assert min(weights) > 105


def test_a_disease_known_for_years_began_as_long_ago(pack):
    ward = Hospital(pack, codes=["G47.33", "I10", "E78.5"], seed=9)
    compared = 0
    for simulated in ward.emrs(200):
        past = simulated.emr.sections["Past history"]
        known = re.search(r"(?:OSA|[Ss]leep apn\w+)[^.]*?(\d+) (?:years|yrs)", past)
        began = re.search(r"(\d+) years", simulated.emr.sections["Chief complaint"])
        if simulated.gold.codes[0] == "G47.33" and known and began:
            compared += 1
            assert known[1] == began[1]
    assert compared


def test_a_link_between_two_diseases_works_from_either_side(pack):
    population = Population(pack, pack.codes, mean_codes=5.0)
    named_by_one = [
        (family.id, other)
        for family in pack.families
        for other, odds in family.odds.items()
        if odds > 1.0 and family.id not in pack.by_id[other].odds
    ]
    assert named_by_one
    for one, other in named_by_one:
        assert other in population._partners[one][0]
        assert one in population._partners[other][0]
