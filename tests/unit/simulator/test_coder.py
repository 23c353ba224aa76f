from dataclasses import replace

import pytest

from label_config.annotation import read_annotation
from label_config.errors import DataError
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_task
from simulator.coder import CoderProfile, SimulatedCoder


@pytest.fixture(scope="module")
def simulated(hospital):
    return list(hospital.emrs(200))


def task_for(one, pack, suggested):
    suggestions = SuggestionSet(
        one.emr.emr_id, tuple(Suggestion(code, 0.9) for code in suggested), "v1"
    )
    return build_task(one.emr, suggestions, pack.taxonomy, batch="b1", order=1)


def test_a_perfect_coder_turns_any_suggestion_into_the_gold_codes(simulated, pack):
    coder = SimulatedCoder("perfect", taxonomy=pack.taxonomy)
    for one in simulated[:10]:
        task = task_for(one, pack, ["A09", *one.gold.codes[1:]])
        coding = read_annotation(task, coder.annotate(task, one.gold))
        assert set(coding.codes) == set(one.gold.codes)
        assert coding.principal == one.gold.principal
        assert {(s.section, s.start, s.end) for s in coding.evidence} <= {
            (s.section, s.start, s.end) for s in one.gold.evidence
        }


def test_a_coder_omits_codes_at_the_profile_rate(simulated):
    coder = SimulatedCoder(CoderProfile("x", omits=0.2), seed=1)
    kept = sum(len(coder.decide([], one.gold, one.emr).codes) for one in simulated)
    gold = sum(len(one.gold.codes) for one in simulated)
    assert 1 - kept / gold == pytest.approx(0.2, abs=0.04)


def test_a_coder_adds_codes_at_the_profile_rate(simulated, pack):
    coder = SimulatedCoder(CoderProfile("x", adds=0.15), seed=1, taxonomy=pack.taxonomy)
    entered = sum(len(coder.decide([], one.gold, one.emr).codes) for one in simulated)
    gold = sum(len(one.gold.codes) for one in simulated)
    assert entered / gold - 1 == pytest.approx(0.15, abs=0.04)


def test_right_suggestions_save_time(simulated):
    coder = SimulatedCoder("perfect")
    blank = sum(coder.decide([], one.gold, one.emr).seconds for one in simulated)
    helped = sum(
        coder.decide(one.gold.codes, one.gold, one.emr, listed=one.gold.codes).seconds
        for one in simulated
    )
    assert helped < blank


def test_gold_codes_of_another_emr_are_refused(simulated, pack):
    task = task_for(simulated[0], pack, [])
    with pytest.raises(DataError, match="gold codes are of"):
        SimulatedCoder().annotate(task, replace(simulated[1].gold))
