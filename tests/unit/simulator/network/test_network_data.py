import pytest

from simulator.experiments import network_data, network_fig6
from simulator.experiments.network_data import Site


def test_in_a_ward_of_a_pool_every_emr_is_either_clean_or_noisy(made):
    ward = made(12).ward([7, 3])
    assert [emr.emr_id for emr in ward.clean] == ["e7", "e3"]
    assert {c.source for c in ward.clean_codings} == {"clean"}
    assert len(ward.noisy) == 10 and not {"e3", "e7"} & {emr.emr_id for emr in ward.noisy}
    assert [c.emr_id for c in ward.noisy_codings] == [emr.emr_id for emr in ward.noisy]


def test_noise_changes_the_names_of_an_emr_but_not_its_text(small):
    rates = [network_fig6.spoilt(rate) for rate in (0.0, 0.6)]
    assert rates[1].vague + rates[1].wrong + rates[1].missing == pytest.approx(0.6)
    assert rates[1].missing / rates[1].vague == pytest.approx(12 / 9)
    (_, tidy, _), (_, spoilt, _) = (
        network_data.admissions(6, seed=1, site=Site(rates=rate)) for rate in rates
    )
    assert [emr.sections for emr in tidy] == [emr.sections for emr in spoilt]
    assert [emr.diagnoses for emr in tidy] != [emr.diagnoses for emr in spoilt]
