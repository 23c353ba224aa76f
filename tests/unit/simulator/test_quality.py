from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.errors import ConfigError
from simulator.quality import KINDS, NoiseRates, degrade

RATES = NoiseRates(vague=0.1, wrong=0.15, missing=0.2, extra=0.1)


@pytest.fixture(scope="module")
def simulated(hospital):
    return list(hospital.emrs(800))


def test_each_kind_of_error_comes_at_its_own_rate(simulated, pack, hospital):
    names, counts = 0, Counter()
    for one in simulated:
        _, errors = degrade(one, RATES, pack, seed=5, codes=hospital.codes)
        names += len(one.gold.codes)
        counts.update(error.kind for error in errors)
    for kind in KINDS:
        assert counts[kind] / names == pytest.approx(getattr(RATES, kind), abs=0.025)


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 799), seed=st.integers(0, 10_000))
def test_vague_is_a_true_ancestor_wrong_a_true_sibling_extra_unrelated(
    index, seed, simulated, pack, hospital
):
    one = simulated[index]
    rates = NoiseRates(vague=0.4, wrong=0.4, missing=0.1, extra=0.5)
    emr, errors = degrade(one, rates, pack, seed=seed, codes=hospital.codes)
    tree = pack.taxonomy
    for error in errors:
        if error.kind == "vague":
            assert error.name_code in tree.ancestors(error.gold_code)
        elif error.kind == "wrong":
            assert error.name_code in tree.siblings(error.gold_code)
        elif error.kind == "extra":
            related = {tree.category(code) for code in one.gold.codes}
            assert tree.category(error.name_code) not in related
    missing = sum(error.kind == "missing" for error in errors)
    extra = sum(error.kind == "extra" for error in errors)
    assert len(emr.diagnoses) == len(one.gold.codes) - missing + extra


def test_changing_one_rate_leaves_the_draws_of_the_others_alone(simulated, pack):
    def missing(rates):
        errors = [e for one in simulated[:200] for e in degrade(one, rates, pack)[1]]
        return [(e.emr_id, e.gold_code) for e in errors if e.kind == "missing"]

    assert missing(NoiseRates(missing=0.2)) == missing(
        NoiseRates(missing=0.2, vague=0.3, extra=0.2)
    )


def test_rates_that_cannot_be_met_together_are_refused():
    with pytest.raises(ConfigError, match="sum to at most 1"):
        NoiseRates(vague=0.5, wrong=0.4, missing=0.2)
