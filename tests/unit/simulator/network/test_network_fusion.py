import dataclasses
import json
from functools import partial

import pytest

from label_config.errors import ConfigError
from label_config.record import EMR, Coding, EvidenceSpan
from simulator.experiments import network_fusion, network_fusion_data
from simulator.experiments.chosen import Chosen
from simulator.experiments.network_data import knowledge
from training.stages import StagesConfig

CODES = ("E11.9", "E11.6", "I10", "J18.9")


def corpus(**changed):
    """An empty one."""
    empty = network_fusion_data.Corpus("here", [], [], [], [], [], [], CODES, knowledge().taxonomy)
    return dataclasses.replace(empty, **changed)


def write_cases(folder, language):
    """CodiEsp's files, with six coded cases and two unlabelled ones."""

    def case(i: int, text: str, code: str) -> dict[str, object]:
        return {"id": f"c{i}", "text": text, "codes": [code], "evidence": [[code, "", [[0, 5]]]]}

    coded = [case(i, "fever", "J18.9" if i else "I10") for i in range(6)]
    raw = [case(9, "line one\u2028line two", ""), case(10, "fever", "")]
    for split, cases in (("traindev", coded), ("background_unlabelled", raw)):
        lines = [json.dumps(one, ensure_ascii=False) for one in cases]
        path = folder / f"codiesp_{language}_{split}.jsonl"
        path.write_text("\n".join(lines), "utf-8")


def test_every_option_is_compared_where_the_corpus_has_something_for_it():
    stages, emr = StagesConfig.quick(), EMR("e", {"History": "seen"})
    marked = Coding("e", ("I10",), "clean", evidence=(EvidenceSpan("I10", "History", 0, 4),))
    few = network_fusion.variants(stages, corpus(clean=[Coding("e", ("I10",), "clean")]).gives())
    assert not {"no evidence", "no unlabelled EMRs"} & set(few)
    assert few["with Hill loss"].clean.codes_loss == "hill"
    many = corpus(raw=[emr], noisy=[Coding("e", ("I10",), "noisy")], clean=[marked])
    variants = network_fusion.variants(stages, many.gives())
    assert {"no evidence", "no unlabelled EMRs"} <= set(variants)
    assert variants["with Hill loss"].noisy.codes_loss == "hill"
    assert list(variants)[:2] == ["without network", "all"]
    assert variants.pop("without network") is None
    assert len(set(variants.values())) == len(variants)
    names = [name for name in variants if name != "all"]
    assert all(name.startswith(("no ", "with ")) for name in names)


def test_an_option_is_worth_what_the_fusion_has_with_it_and_not_without_it():
    f1 = {"without network": 0.5, "all": 0.53, "no evidence": 0.51, "with Hill loss": 0.54}
    rows = [
        {
            "data": "here",
            "members": m,
            "seed": seed,
            "micro_f1": 0.5 + (f - 0.5) * seed,
            "change": (f - 0.5) * seed,
            "alone_micro_f1": f / 2,
        }
        for seed in (1, 2)
        for m, f in f1.items()
    ]
    found = {verdict["id"]: verdict for verdict in network_fusion.goals(rows)}
    assert {name: verdict["value"] for name, verdict in found.items()} == {
        "network adds, here": pytest.approx(0.045),
        "evidence: gain in the fusion, here": pytest.approx(0.03),
        "evidence: gain alone, here": pytest.approx(0.01),
        "Hill loss: gain in the fusion, here": pytest.approx(0.015),
        "Hill loss: gain alone, here": pytest.approx(0.005),
    }
    assert all("interval" in verdict and verdict["met"] for verdict in found.values())


def test_the_fusion_is_trained_with_each_option_on_members_trained_once(small, monkeypatch):
    monkeypatch.setattr(network_fusion_data, "QUICK_SIZES", (4, 6, 24, 10))
    monkeypatch.setattr(network_fusion, "QUICK_SEEDS", 1)
    rows = ("without network", "all", "no queries from names", "with the sparse model as teacher")
    every, train = network_fusion.variants, network_fusion.train_members
    trained, steps = [], []
    monkeypatch.setattr(
        network_fusion,
        "variants",
        lambda *about, **how: {row: every(*about, **how)[row] for row in rows},
    )
    monkeypatch.setattr(
        network_fusion,
        "train_members",
        lambda *a, **k: trained.append(train(*a, **k)) or trained[0],
    )
    measured = network_fusion.run(True, (5, 6), lambda *at: steps.append(at))
    assert tuple(row["members"] for row in measured.rows) == rows and measured.seeds == (5,)
    assert len(trained) == 1 and steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    without, *others = measured.rows
    assert without["change"] == 0 and "alone_micro_f1" not in without
    assert all(0 <= row["alone_micro_f1"] <= 1 for row in others)
    assert len(measured.goals) == 1 + 2 * 2


def test_a_quick_run_tries_the_options_on_some_orders_and_the_network_on_all(small, monkeypatch):
    monkeypatch.setattr(network_fusion_data, "QUICK_SIZES", (4, 6, 24, 10))
    monkeypatch.setattr(network_fusion, "QUICK_TRIED", 1)
    steps: list[tuple[int, int]] = []

    def judge(self: object, config: object) -> dict[str, float]:
        return {"micro_f1": 0.5, "alone_micro_f1": 0.25}

    monkeypatch.setattr(network_fusion.Contest, "judge", judge)
    measured = network_fusion.run(True, (5, 6), lambda *at: steps.append(at))
    rows = {seed: [r["members"] for r in measured.rows if r["seed"] == seed] for seed in (5, 6)}
    assert rows[6] == ["without network", "all"] and rows[5][:2] == rows[6]
    assert set(rows[5][2:]).isdisjoint(network_fusion.FULL_ONLY) and len(rows[5]) > 4
    assert steps == [(i, len(measured.rows)) for i in range(1, len(measured.rows) + 1)]
    added = next(goal for goal in measured.goals if goal["id"].startswith("network adds"))
    assert "interval" in added and sum("interval" in goal for goal in measured.goals) == 1


def test_one_option_on_one_corpus_is_compared_with_all_and_with_none(small, monkeypatch, tmp_path):
    monkeypatch.setattr(
        network_fusion.Contest, "judge", lambda *_: {"micro_f1": 0.5, "alone_micro_f1": 0.4}
    )
    write_cases(tmp_path, "en")
    chosen = Chosen(places=("CodiEsp EN, 50 codes",), rows=("with the sparse model as teacher",))
    measured = network_fusion.run(True, (5,), data=tmp_path, chosen=chosen)
    assert [row["members"] for row in measured.rows] == [
        "without network",
        "all",
        "with the sparse model as teacher",
    ]
    assert {row["data"] for row in measured.rows} == set(chosen.places)
    assert len(measured.goals) == 1 + 2
    with pytest.raises(ConfigError, match="there are: simulated"):
        network_fusion.run(True, (5,), chosen=chosen)


@pytest.mark.parametrize("language", ["en", "es"])
def test_codiesp_gives_evidence_of_its_frequent_codes_and_unlabelled_emrs(
    tmp_path, language, monkeypatch
):
    write_cases(tmp_path, language)
    monkeypatch.setattr(network_fusion_data, "TOP", 1)
    found = network_fusion_data.codiesp(tmp_path, language, quick=False, seed=1)
    assert found.codes == ("J18.9",) and found.name == f"CodiEsp {language.upper()}, 50 codes"
    assert [emr.emr_id for emr in found.raw] == ["c9", "c10"]
    assert (len(found.emrs), len(found.unseen)) == (4, 2)
    for coding in [*found.clean, *found.truth]:
        assert set(coding.codes) == {span.code for span in coding.evidence} <= {"J18.9"}


def test_the_fusion_goes_on_after_it_was_stopped(small, monkeypatch, begun_again):
    monkeypatch.setattr(network_fusion_data, "QUICK_SIZES", (4, 6, 24, 10))
    every, rows = network_fusion.variants, ("without network", "all")
    monkeypatch.setattr(
        network_fusion,
        "variants",
        lambda *about, **how: {row: every(*about, **how)[row] for row in rows},
    )
    made = begun_again(partial(network_fusion.run, True, (5,)))
    assert [key["row"] for key in made] == ["all"]
