"""The rules experiment on a few cases in CodiEsp's form."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from label_config.errors import ConfigError
from label_config.rules import RuleWarning
from simulator.experiments import rules

CASES = [
    ("Cough and pneumonia.", [("J18.9", "pneumonia"), ("R05.9", "Cough")]),
    ("A 41-year-old woman with asthma.", [("J45.909", "asthma")]),
    ("A 60-year-old man with fever, pneumonia.", [("J18.9", "pneumonia")]),
    ("Pneumonia again, and cough.", [("J18.9", "Pneumonia"), ("R05.9", "cough")]),
    ("Asthma since youth.", [("J45.909", "Asthma")]),
    ("Cough for a week.", [("R05.9", "Cough")]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "codiesp_en_traindev.jsonl").open("w") as file:
        for n, (text, spans) in enumerate(CASES * 4):
            evidence = [
                [code, words, [[text.index(words), text.index(words) + len(words)]]]
                for code, words in spans
            ]
            codes = [code for code, _ in spans]
            case = {"id": f"S{n}", "text": text, "codes": codes, "evidence": evidence}
            file.write(json.dumps(case) + "\n")
    return tmp_path


def test_each_rule_is_counted_on_coders_and_on_suggestions_and_none_blocks(folder: Path) -> None:
    measured = rules.run(True, [0], data=folder)
    [cough] = [row for row in measured.rows if row["rule"] == "symptom/cough"]
    assert cough["coders_break"] == pytest.approx(1 / 3)
    assert cough["firings"] > 0
    assert 0 <= cough["points_at_error"] <= 1
    assert measured.goals[0]["value"] == 0 and measured.goals[0]["met"]


def test_chance_draws_different_codes_of_the_case() -> None:
    seen = rules.Seen()
    pair = RuleWarning("excludes1", ("J18.9", "R05.9"), "", "")
    seen.add([pair], ("J18.9", "R05.9"), {"J18.9"})
    assert (seen.by_rule["excludes1"].right, seen.by_rule["excludes1"].chance) == (1, 1.0)
    seen.add([pair], ("J18.9", "R05.9", "J45.909", "R50.9"), {"J18.9", "R05.9", "J45.909"})
    assert seen.by_rule["excludes1"].right == 1
    assert seen.by_rule[rules.ALL].chance == pytest.approx(1 + 1 / 2)


def test_the_same_seed_measures_the_same(folder: Path) -> None:
    assert rules.run(True, [3], data=folder).rows == rules.run(True, [3], data=folder).rows


def test_it_asks_for_its_data() -> None:
    with pytest.raises(ConfigError, match="--data"):
        rules.run(True, [0])


def test_it_goes_on_after_it_was_stopped(folder: Path, begun_again: Any) -> None:
    made = begun_again(partial(rules.run, True, [0, 1], data=folder))
    assert [key["seed"] for key in made] == [1]
