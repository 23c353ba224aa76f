import pytest

from label_config.measured import Measured
from simulator.experiments import network_parts, network_table2, network_table3
from simulator.experiments.network_data import knowledge
from training.rival_models import RIVALS
from training.stages import StagesConfig


@pytest.fixture
def asked(monkeypatch):
    """What a table asks to be compared, without comparing it."""
    calls = []

    def compare(rows, **how):
        calls.append((rows, how))
        return Measured([], [], (), "")

    for table in (network_table2, network_table3):
        monkeypatch.setattr(table, "compare", compare)
    return calls


def test_every_part_differs_from_the_whole():
    parts = network_parts.parts(StagesConfig.quick())
    assert len(set(map(repr, parts.values()))) == len(parts) and next(iter(parts)) == "whole"


def test_parts_without_names_to_start_queries_from_say_so():
    parts = network_parts.parts(StagesConfig.quick())
    assert {name for name, part in parts.items() if not part.config.start_from_names} == {
        name for name in parts if "queries from nothing" in name
    }


def test_table_2_sets_every_published_extractor_beside_ours(asked):
    network_table2.run(True, (5,))
    network_table2.run(False, (5,))
    (quick, at_home), (full, everywhere) = asked
    assert set(quick) > {*RIVALS, "without noisy", "without raw", "without graph"}
    assert set(full) > set(quick) and next(iter(quick)) == next(iter(full)) == "three stages"
    assert len(at_home["sites"]) == 1
    assert {(s.profile, s.codes) for s in everywhere["sites"]} == {
        ("hph", 50), ("hph", 100), ("aph", 50), ("aph", 100)
    }  # fmt: skip


def test_no_row_of_ours_equals_another():
    for preset in (StagesConfig.quick(), StagesConfig.best(), StagesConfig.paper()):
        rows = network_table2.ablations(preset)
        assert len(set(map(repr, rows.values()))) == len(rows)
        assert ("without highlights" in rows) == bool(preset.clean.evidence)


def test_table_3_takes_the_full_code_set(asked):
    for quick in (True, False):
        network_table3.run(quick, (5,))
    (few, how), (every, _) = asked
    assert [site.codes for site in how["sites"]] == [len(knowledge().codes)]
    assert {"BERT", "PLM-CA"} < set(few) < set(every) and set(RIVALS) < set(every)


def test_the_findings_of_table_2_say_whether_the_papers_ordering_holds():
    about = {"hospital": "hph, 50 codes"}
    f1 = {"three stages": (0.5, 0.6), "without noisy": (0.39, 0.49), "without raw": (0.51, 0.59)}
    rows = [
        {**about, "setting": name, "seed": seed, "micro_f1": f, "change": f - first}
        for name, both in f1.items()
        for seed, (f, first) in enumerate(zip(both, f1["three stages"], strict=True))
    ]
    noisy, raw, order = network_table2.findings(rows)
    assert "-0.110" in noisy and noisy.endswith("in the paper by -0.134: the same way.")
    assert raw.endswith("but these seeds cannot tell it from none.")
    assert order.endswith("three stages 0.550, without raw 0.550, without noisy 0.440.")


def test_the_findings_of_parts_tell_changes_from_chance():
    changes = {"whole": (0, 0, 0), "no graph": (-0.1, -0.11, -0.09), "no evidence": (-0.1, 0, 0.1)}
    rows = [
        {"setting": name, "change": change} for name, three in changes.items() for change in three
    ]
    told, untold = network_parts.findings(rows)
    assert told.startswith("Changes micro-F1: no graph -0.100") and "evidence" not in told
    assert untold.startswith("These seeds cannot tell from none: no evidence +0.000")
