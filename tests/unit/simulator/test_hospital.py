import pytest

from label_config.errors import ConfigError, UnknownCode
from label_config.files import data_hash
from simulator.hospital import Hospital


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


def test_pregnancy_and_injury_come_only_with_a_reason_that_fits(pack):
    wide = Hospital(pack, codes=600, seed=5)
    for simulated in wide.emrs(300):
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
