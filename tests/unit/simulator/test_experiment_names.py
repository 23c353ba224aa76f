from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from label_config.errors import ConfigError, DataError
from ml_backend.table import over_repeats
from simulator.experiments import names as experiment
from simulator.experiments import names_tasks
from training.similarity import NameMatch


def test_halves_share_nothing_and_leave_nothing_out() -> None:
    tuned, told = experiment.halves(11, seed=3)
    assert sorted([*tuned, *told]) == list(range(11))
    assert abs(len(tuned) - len(told)) <= 1
    assert experiment.halves(11, seed=4) != (tuned, told)


def test_accuracy_leaves_out_names_that_have_no_code() -> None:
    ranked = [["A", "B"], ["B", "A"], ["C", "A"]]
    right = [{"A"}, {"A", "X"}, set()]
    assert experiment.accuracy(ranked, right) == {"acc1": 0.5, "acc5": 1.0}


def test_calibration_error_counts_names_without_a_code_as_wrong() -> None:
    matches = [NameMatch("A", 0.9, (("A", 0.9),))] * 10
    right = [{"A"}] * 5 + [set()] * 5
    assert experiment.figures(matches, right)["ece"] == pytest.approx(0.4)


def test_names_are_asked_as_often_as_they_stand_there() -> None:
    task = names_tasks.Task("t", ["a", "b"], [{"A"}, {"B"}], ["A", "B"], times=[1, 3])
    assert task.asked([1]) == (["b"] * 3, [{"B"}] * 3)


def test_candidates_are_the_names_codes_filled_up_with_other_diseases() -> None:
    files = {
        "ncbi": [("train", "Tumour", "C80|C80.1"), ("dev", "tumour", "C80.1")],
        "doid": [f"X{i}" for i in range(2000)],
    }
    task = names_tasks.ncbi_task(files, None, seed=0)
    assert task.names == ["Tumour"] and task.right == [{"C80", "C80.1"}]
    assert len(task.codes) == names_tasks.NCBI_CODES and {"C80", "C80.1"} <= set(task.codes)
    assert names_tasks.ncbi_task(files, None, seed=1) == task


def test_the_codes_with_most_phrases_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_tasks, "INDEX_CODES", 2)
    files = {"index": {"A": ["x"], "B": ["p", "q", "r"], "C": ["s", "t"]}}
    task = names_tasks.index_task(files, None, seed=0)
    assert task.codes == ["B", "C"] and sorted(task.names) == ["p", "q", "r", "s", "t"]


def test_spanish_mentions_that_are_known_are_not_asked_for() -> None:
    files = {"spanish": [("train", f"nombre {i}", f"A{i % 3}") for i in range(30)]}
    task = names_tasks.spanish_task(files, None, seed=0)
    known = {name for names in task.synonyms.values() for name in names}
    assert len(known) == 21 and len(task.names) == 9
    assert not known & set(task.names)


def test_goals_speak_only_of_names_that_were_mapped() -> None:
    row = {"names": experiment.NCBI, "method": experiment.CONFIRMED, "acc1": 0.8, "ece": 0.01}
    rows = [row, {**row, "acc1": 0.7}]
    found = {goal["id"]: goal["value"] for goal in experiment.goals(rows)}
    assert found == {"ncbi_acc1": 0.75, "ncbi_ece": 0.01}


def test_the_findings_say_what_simcse_gives_on_each_kind_of_names() -> None:
    without = {experiment.NCBI: (0.6, 0.6, 0.6), experiment.SIMULATED: (0.7, 0.8, 0.9)}
    rows = [
        {"names": names, "method": method, "seed": seed, "acc1": acc1}
        for method in (experiment.SHIPPED, experiment.NO_SIMCSE)
        for names, three in (without | {experiment.SIMULATED: (0.7, 0.85, 0.8)}).items()
        for seed, acc1 in enumerate(three if method == experiment.SHIPPED else without[names])
    ]
    same, mixed = experiment.findings(rows)
    assert same == (
        "SimCSE, NCBI: +0.000 of acc1 (+0.000 to +0.000), better in 0 and worse in 0 of 3 splits."
    )
    assert mixed.startswith("SimCSE, simulated: +0.000 of acc1 (-0.100 to +0.050), better in 1")
    assert mixed.endswith("worse in 1 of 3 splits.")
    assert experiment.findings(rows[:1]) == ()


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder"):
        names_tasks.read_files(tmp_path / "none")
    with pytest.raises(DataError, match="cannot read"):
        names_tasks.read_files(tmp_path)
    (tmp_path / "informal_names_icd10cm_en.tsv").write_text("A\tindex\n")
    with pytest.raises(DataError, match="three columns"):
        names_tasks.read_files(tmp_path)


def test_a_name_of_a_table_may_hold_other_ends_of_lines(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("dev\tone\u2028two\tI10\n\ndev\tthree\tI11", "utf-8")
    rows = names_tasks._table(tmp_path / "t.tsv")
    assert rows == [("dev", "one\u2028two", "I10"), ("dev", "three", "I11")]


def test_an_encoder_that_remembers_encodes_each_text_once() -> None:
    class Counting:
        dim = 2

        def __init__(self) -> None:
            self.seen: list[str] = []

        def embed(self, texts: list[str]) -> np.ndarray:
            self.seen += texts
            return np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)

    inner = Counting()
    encoder = experiment.RememberingEncoder(inner)  # type: ignore[arg-type]
    encoder.embed(["a", "bb", "a"])
    assert encoder.embed(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    assert inner.seen == ["a", "bb", "ccc"]
    assert encoder.embed([]).shape == (0, 2)


def test_splits_of_one_task_are_one_row_of_the_report_however_many_codes_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def task(files: Any, taxonomy: Any, seed: int) -> names_tasks.Task:
        return names_tasks.Task("t", ["a"], [{"A"}], ["A", "B"][:seed])

    def judge(*args: Any, **options: Any) -> Any:
        return [{"method": experiment.SHIPPED, "acc1": 0.5}]

    monkeypatch.setitem(experiment.TASKS, experiment.SPANISH, task)
    monkeypatch.setattr(experiment, "judge", judge)
    cell = partial(experiment._cell, experiment.SPANISH, {}, None, None, quick=False)
    [row] = over_repeats([row for seed in (1, 2) for row in cell(seed)[1]])
    assert row["codes"] == "1.5 (1-2)"


def test_it_goes_on_after_it_was_stopped(monkeypatch: pytest.MonkeyPatch, begun_again: Any) -> None:
    judged: list[int] = []

    class Loaded:
        fingerprint, dim = "f", 2

    def judge(task: Any, taxonomy: Any, encoder: Any, seed: int, *, lean: bool) -> Any:
        judged.append(seed)
        return [{"method": experiment.SHIPPED, "acc1": len(task.names) / 1000}]

    def task(files: Any, taxonomy: Any, seed: int) -> names_tasks.Task:
        return names_tasks.Task("t", ["a", "b"][:seed], [{"A"}, {"B"}][:seed], ["A", "B"])

    monkeypatch.setitem(experiment.TASKS, experiment.SIMULATED, task)
    monkeypatch.setattr(experiment.Encoder, "load", Loaded)
    monkeypatch.setattr(experiment.Taxonomy, "icd10cm", lambda: None)
    monkeypatch.setattr(experiment, "judge", judge)
    made = begun_again(partial(experiment.run, False, (1, 2)))
    assert judged == [1, 2, 1, 2] and [key["seed"] for key in made] == [2]
