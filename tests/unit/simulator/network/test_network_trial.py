import dataclasses
from functools import partial

import pytest

from label_config.errors import ConfigError
from simulator.experiments import network_places, network_table2, network_trial
from simulator.experiments.chosen import Chosen
from simulator.experiments.kept import KeptInFile
from simulator.experiments.network_data import HPH, Site
from simulator.experiments.network_fig6 import spoilt
from training.stages import StagesConfig


def test_ours_and_theirs_are_compared_on_the_same_emrs_and_repeat_themselves(small, monkeypatch):
    monkeypatch.setattr(network_places, "QUICK_SEEDS", 1)
    ours = network_table2.ablations(StagesConfig.quick())["three stages"]
    rows = {"three stages": ours, "CAML": "CAML", "PLM-CA": "PLM-CA"}
    steps = []
    once = network_trial.compare(
        rows, quick=True, seeds=(5, 6), progress=lambda *at: steps.append(at)
    )
    assert [row["setting"] for row in once.rows] == list(rows)
    assert steps == [(1, 3), (2, 3), (3, 3)] and once.seeds == (5,)
    assert once.rows[0]["change"] == 0 and all(0 < row["map"] <= 1 for row in once.rows)
    assert [verdict["id"] for verdict in once.goals] == ["change CAML", "change PLM-CA"]
    again = network_trial.compare(rows, quick=True, seeds=(5,))
    assert again.rows == once.rows and again.data_hash == once.data_hash


def test_a_comparison_that_was_stopped_goes_on(small, monkeypatch, begun_again):
    monkeypatch.setattr(network_places, "QUICK_SEEDS", 2)
    drawn, draw = [], network_places.ward
    monkeypatch.setattr(
        network_places, "ward", lambda *a, **k: drawn.append(k["seed"]) or draw(*a, **k)
    )
    rivals = {"BERT": "BERT", "CAML": "CAML"}
    run = partial(network_trial.compare, rivals, quick=True, seeds=(5, 6))
    made = begun_again(run, after=3)
    assert [(key["row"], key["seed"]) for key in made] == [("CAML", 6)]
    assert drawn == [5, 6, 5, 6, 6]  # once a seed whose rows are there is not drawn again


def test_rows_are_kept_apart_by_setting_site_and_seed_and_seeds_may_grow(
    small, monkeypatch, tmp_path
):
    def trial(place, contestant):
        return {"micro_f1": len(tried.append((str(place.seed), contestant)) or tried) / 10}

    tried = []
    monkeypatch.setattr(network_trial, "trial", trial)
    ours = network_trial.Setting(StagesConfig.quick())

    def run(contestant, seeds, site=HPH):
        tried.clear()
        kept = KeptInFile(tmp_path / "kept.jsonl", {"experiment": "small"})
        about = {"quick": True, "seeds": seeds, "sites": (site,), "kept": kept}
        return network_trial.compare({"ours": contestant}, **about)

    few = run(ours, (1, 2))
    assert len(tried) == 2
    more = run(ours, (1, 2, 3))
    assert len(tried) == 1 and more.rows[:2] == few.rows
    assert run(ours, (2,)).rows == few.rows[1:] and not tried
    run(dataclasses.replace(ours, raw=False), (1,))
    assert len(tried) == 1
    run(ours, (1,), Site(rates=spoilt(0.6)))
    assert len(tried) == 1


def test_one_may_ask_for_some_places_and_rows_and_has_the_same_ones_of_them(monkeypatch, small):
    def trial(place, contestant):
        return {"micro_f1": (place.seed + len(contestant)) / 100}

    monkeypatch.setattr(network_trial, "trial", trial)
    steps = []
    sites, rows = (HPH, Site("aph")), {"CAML": "CAML", "LAAT": "LAAT", "BERT": "BERT-2"}
    compare = partial(network_trial.compare, rows, quick=True, seeds=(5,), sites=sites)
    whole = compare()
    some = compare(
        chosen=Chosen(places=(str(sites[1]),), rows=("BERT",)),
        progress=lambda *at: steps.append(at),
    )
    assert some.rows == [
        row for row in whole.rows if row["hospital"] == str(sites[1]) and row["setting"] != "LAAT"
    ]
    assert len(some.rows) == 2 and steps == [(1, 2), (2, 2)]
    assert [verdict["id"] for verdict in some.goals] == ["change BERT"]
    for unknown, kind in ((Chosen(places=("x",)), "place"), (Chosen(rows=("x",)), "row")):
        with pytest.raises(ConfigError, match=f"no {kind} 'x'; there are: .*(aph|BERT)"):
            compare(chosen=unknown)


def test_what_is_left_out_of_table_2_is_not_spoken_of(monkeypatch):
    rows = [
        {"hospital": "here", "setting": s, "micro_f1": f, "change": f - 0.6}
        for s, f in (("three stages", 0.6), ("without raw", 0.5))
        for _ in range(2)
    ]
    changes, ranked = network_table2.findings(rows)
    assert "without raw" in changes and "without noisy" not in changes + ranked
