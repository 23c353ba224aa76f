import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from label_config.errors import ConfigError, DataError
from label_config.taxonomy import Taxonomy
from simulator.experiments import codiesp
from simulator.experiments.codiesp_checks import promise_row, shortest_list
from simulator.experiments.codiesp_data import frequent_codes, read_cases
from simulator.experiments.codiesp_strict import band_recalls

SIGNS = {"R50.9": "fiebre alta", "R51": "cefalea intensa", "R05": "tos seca"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 cases of one or two of three codes, the file's format."""
    path = tmp_path_factory.mktemp("codiesp")
    rng = np.random.default_rng(0)
    with (path / "codiesp_es_traindev.jsonl").open("w") as file:
        for i in range(60):
            codes = [code for code in SIGNS if rng.random() < 0.5] or ["R05"]
            text, evidence = f"Caso {i}.", []
            for code in codes:
                start = len(text) + len(" Refiere ")
                text += f" Refiere {SIGNS[code]} desde ayer."
                evidence.append([code, SIGNS[code], [[start, start + len(SIGNS[code])]]])
            case = {"id": f"c{i}", "text": text, "codes": codes, "evidence": evidence}
            file.write(json.dumps(case) + "\n")
    return path


def test_highlights_are_read_at_their_place(folder: Path) -> None:
    emrs, codings = read_cases(folder, "es")
    span = codings[0].evidence[0]
    assert emrs[0].sections[span.section][span.start : span.end] == SIGNS[span.code]
    assert set(frequent_codes(codings)) == set(SIGNS)
    assert len(frequent_codes(codings, 2)) == 2


def test_every_member_is_judged_on_cases_it_has_not_seen(folder: Path) -> None:
    measured = codiesp.run(True, [0], data=folder)
    by_member = {r["member"]: r for r in measured.rows if r["cases"] == "all"}
    assert {"titles", "lexicon", "L1", "L1 + lexicon", "phrases", "sparse"} < set(by_member)
    assert by_member["fusion"]["micro_f1"] > 0.95 > by_member["titles"]["micro_f1"]
    assert by_member["highlights"]["top1"] > 0.8
    assert {goal["id"] for goal in measured.goals} >= {"es_top50_f1", "promise_kept"}


def test_the_cases_to_learn_from_never_meet_the_others(folder: Path) -> None:
    corpus = codiesp.Corpus(*read_cases(folder, "es"))
    part = codiesp.draw(corpus, codiesp.Setting("es", 50, 25), seed=1)
    assert len(part.train) == 25 and len(part.test) == 20
    assert not set(part.train) & set(part.test)


def test_codes_that_training_has_not_seen_count_as_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.described.FEWEST", 1)
    corpus = codiesp.Corpus(*read_cases(folder, "es"))
    for i, coding in enumerate(corpus.codings):
        if i % 7 == 0:  # a code of its own for every seventh case
            codes = (*coding.codes, f"R{i + 10}.9")
            corpus.codings[i] = dataclasses.replace(coding, codes=codes)
    setting = codiesp.Setting("es", None, None)
    rows = codiesp._rows(corpus, setting, 0, Taxonomy.icd10cm())
    known = next(r for r in rows if r["codes"] == "all" and r["member"] == "fusion")
    strict = [r for r in rows if r["codes"] == codiesp.STRICT]
    assert strict[0]["member"] == "fusion"
    assert strict[0]["micro_recall"] < known["micro_recall"] and strict[0]["map"] < known["map"]
    assert np.isfinite(strict[0]["recall@15 0"]) and np.isnan(known["recall@15 0"])
    assert [row["member"] for row in strict] == ["fusion", "fusion + described"]


def test_goals_of_all_codes_say_whether_unseen_ones_count() -> None:
    about: dict[str, Any] = {"language": "es", "cases": "all"}
    rows = [
        {**about, "codes": "all", "member": "fusion", "micro_f1": 0.8, "map": 0.7},
        {**about, "codes": codiesp.STRICT, "member": "fusion", "micro_f1": 0.6, "map": 0.5},
        {
            **about,
            "codes": codiesp.STRICT,
            "member": codiesp.DESCRIBED,
            "micro_f1": 0.7,
            "map": 0.6,
        },
    ]
    rows = [row | {"validation_f1": 0.8} for row in rows]
    goals = {goal["id"]: goal for goal in codiesp.goals(rows)}
    assert goals["es_seen_codes_f1"]["met"] and goals["es_seen_codes_map"]["met"]
    assert goals["es_unseen_too_f1"]["value"] == 0.7 and not goals["es_unseen_too_f1"]["met"]
    assert goals["es_unseen_too_map"]["value"] == 0.6 and not goals["es_unseen_too_map"]["met"]


def test_recall_by_band_tells_new_codes_from_known_ones() -> None:
    truth = np.array([[True, True, False], [True, False, True]])
    probs = np.array([[0.9, 0.1, 0.2], [0.8, 0.1, 0.7]])
    recalls = band_recalls(
        np.pad(probs, ((0, 0), (0, 20)), constant_values=0.15),
        np.pad(truth, ((0, 0), (0, 20))),
        np.array([30, 0, 1, *[2] * 20]),
    )
    assert recalls["recall@15 0"] == 0 and recalls["recall@15 21+"] == 1
    assert recalls["recall@15 1-1"] == 1 and np.isnan(recalls["recall@15 2-5"])


def test_the_shortest_list_is_as_complete_as_asked() -> None:
    probs, truth = np.array([[0.9, 0.5, 0.1]] * 4), np.array([[True, True, False]] * 4)
    assert shortest_list(probs, truth, 0.5) == 1
    assert shortest_list(probs, truth, 0.0) == 2


def test_a_perfect_ranking_keeps_its_promise() -> None:
    truth = np.random.default_rng(0).random((600, 5)) < 0.3
    row = promise_row(truth * 0.8 + 0.1, truth, seed=0)
    assert row["kept"] == 1 and row["candidates_to_top_k"] < 0.6


def test_a_missing_folder_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data"):
        codiesp.run(True, [0])
    with pytest.raises(DataError, match="cannot read"):
        read_cases(tmp_path, "es")
    (tmp_path / "codiesp_en_traindev.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="must hold cases"):
        read_cases(tmp_path, "en")


def test_it_goes_on_after_it_was_stopped(folder: Path, begun_again: Any) -> None:
    made = begun_again(partial(codiesp.run, True, [0], data=folder), after=2)
    assert [key["cases"] for key in made] == ["25"]
