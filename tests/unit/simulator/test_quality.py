from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.errors import ConfigError
from label_config.record import EMR, Coding
from simulator.coder import PROFILES, SimulatedCoder
from simulator.hospital import SimulatedEMR
from simulator.patient import visit_of
from simulator.quality import KINDS, PRESETS, NoiseRates, degrade

SHARES = st.floats(0.0, 0.33)
RATES = st.builds(NoiseRates, vague=SHARES, wrong=SHARES, missing=SHARES, extra=st.floats(0.0, 1.0))


@pytest.fixture(scope="module")
def admissions(hospital):
    """What 2,000 admissions are coded with; writing their texts would take long."""
    population, codings = hospital.population, []
    for index in range(2_000):
        number, earlier = visit_of(index)
        patient = population.patient(number, Random(number))
        conditions = population.admission(patient, earlier, Random(f"admission {index}"))
        codings.append(tuple(condition.code for condition in conditions))
    return codings


def simulated(codes, emr_id="E1"):
    return SimulatedEMR(EMR(emr_id, {"note": "text"}), Coding(emr_id, codes, "gold"))


@pytest.fixture(scope="module")
def ten_thousand(admissions):
    return [simulated(codes, f"E{i}-{n}") for n in range(5) for i, codes in enumerate(admissions)]


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("name", ["nhc2020", "omits18", "adds15", "careless"])
def test_over_10000_emrs_each_error_comes_at_its_rate_within_a_hundredth(
    name, seed, ten_thousand, pack, hospital
):
    rates, counts = PRESETS[name], Counter()
    for one in ten_thousand:
        errors = degrade(one, rates, pack, seed=seed, codes=hospital.codes)[1]
        counts.update(error.kind for error in errors)
    gold = sum(len(one.gold.codes) for one in ten_thousand)
    for kind in KINDS:
        assert counts[kind] / gold == pytest.approx(getattr(rates, kind), abs=0.01)


@pytest.mark.parametrize(
    ("name", "omits", "adds"), [("omits18", 0.18, 0.02), ("adds15", 0.04, 0.15)]
)
def test_over_10000_emrs_a_coder_omits_and_adds_at_the_profile_rates_within_a_hundredth(
    name, omits, adds, ten_thousand, pack
):
    coder = SimulatedCoder(name, taxonomy=pack.taxonomy)
    gold = omitted = added = 0
    confused = PROFILES[name].confuses
    for one in ten_thousand:
        codes = set(coder.decide([], one.gold, one.emr).codes)
        gold += len(one.gold.codes)
        omitted += len(set(one.gold.codes) - codes)
        added += len(codes - set(one.gold.codes))
    assert omitted / gold == pytest.approx(omits + confused, abs=0.01)
    assert added / gold == pytest.approx(adds + confused, abs=0.01)


def names_of(pack, code):
    """Every name that a code may go by, in lower case."""
    names = set(pack.taxonomy.names(code))
    if code in pack.by_code:
        names |= {text for p in pack.by_code[code][1].names for text in (*p.a, *p.b)}
    for family in pack.families:
        names |= {text for p in family.vague.get(code, ()) for text in (*p.a, *p.b)}
    return {name.lower() for name in names}


@settings(max_examples=150, deadline=None)
@given(index=st.integers(0, 1_999), seed=st.integers(0, 10_000), rates=RATES)
def test_every_error_recorded_is_the_one_that_was_made(
    index, seed, rates, admissions, pack, hospital
):
    gold, tree = admissions[index], pack.taxonomy
    emr, errors = degrade(simulated(gold), rates, pack, seed=seed, codes=hospital.codes)
    names = [diagnosis.name.lower() for diagnosis in emr.diagnoses]
    for error in errors:
        if error.kind == "missing":
            assert error.position is None and error.name_code is None
            continue
        assert names[error.position] in names_of(pack, error.name_code)
        if error.kind == "vague":
            assert error.name_code in tree.ancestors(error.gold_code)
        elif error.kind == "wrong":
            assert error.name_code in tree.siblings(error.gold_code)
            assert error.name_code not in gold
        elif error.kind == "extra":
            assert error.gold_code is None
            assert tree.category(error.name_code) not in map(tree.category, gold)
        if error.gold_code is not None:
            assert names[error.position] not in names_of(pack, error.gold_code)


@settings(max_examples=100, deadline=None)
@given(index=st.integers(0, 1_999), seed=st.integers(0, 10_000), rates=RATES)
def test_what_is_no_error_is_a_right_name_and_what_is_missing_is_gone(
    index, seed, rates, admissions, pack, hospital
):
    gold = admissions[index]
    emr, errors = degrade(simulated(gold), rates, pack, seed=seed, codes=hospital.codes)
    wrongly = {error.position for error in errors}
    right = [d.name.lower() for at, d in enumerate(emr.diagnoses) if at not in wrongly]
    spoilt = [error.gold_code for error in errors if error.gold_code is not None]
    kept = [code for code in gold if code not in spoilt]
    assert len(spoilt) == len(set(spoilt)) and set(spoilt) <= set(gold)
    assert len(right) == len(kept)
    for name, code in zip(right, kept, strict=True):
        assert name in names_of(pack, code)
    for code in (error.gold_code for error in errors if error.kind == "missing"):
        assert names_of(pack, code).isdisjoint(right)


@settings(max_examples=50, deadline=None)
@given(index=st.integers(0, 1_999), seed=st.integers(0, 10_000))
def test_no_unrelated_code_is_added_twice(index, seed, admissions, pack, hospital):
    rates = NoiseRates(extra=1.0)
    errors = degrade(simulated(admissions[index]), rates, pack, seed=seed, codes=hospital.codes)[1]
    added = [pack.taxonomy.category(error.name_code) for error in errors]
    assert len(added) == len(set(added)) == len(admissions[index])


def test_changing_one_rate_leaves_the_draws_of_the_others_alone(admissions, pack):
    def missing(rates):
        stays = [simulated(codes, f"E{i}") for i, codes in enumerate(admissions[:200])]
        errors = [error for one in stays for error in degrade(one, rates, pack)[1]]
        return [(e.emr_id, e.gold_code) for e in errors if e.kind == "missing"]

    assert missing(NoiseRates(missing=0.2)) == missing(
        NoiseRates(missing=0.2, vague=0.3, extra=0.2)
    )


def test_the_same_seed_gives_the_same_names_and_another_seed_others(admissions, pack):
    def names(seed):
        return degrade(simulated(admissions[0]), PRESETS["careless"], pack, seed=seed)[0]

    assert names(1) == names(1)
    assert len({str(names(seed)) for seed in range(20)}) > 10


def test_rates_that_cannot_be_met_together_are_refused():
    with pytest.raises(ConfigError, match="sum to at most 1"):
        NoiseRates(vague=0.5, wrong=0.4, missing=0.2)
