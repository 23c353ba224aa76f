import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from label_config.errors import DataError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from simulator.experiments import noise as experiment
from simulator.experiments import noise_rare, noise_spoilt
from training.out_of_fold import targets

TAXONOMY = Taxonomy(
    "t",
    [
        CodeEntry("A1", "first", None, "category"),
        *(CodeEntry(f"A1.{i}", f"kind {i}", "A1", "subcategory") for i in range(4)),
    ],
)
CODES = ("A1.0", "A1.1", "A1.2")


def codings(n: int = 400) -> list[Coding]:
    rng = np.random.default_rng(0)
    return [
        Coding(f"e{i}", (code,), "clean", evidence=(EvidenceSpan(code, "Text", 0, 4),))
        for i, code in enumerate(rng.choice(list(CODES), n).tolist())
    ]


def test_the_share_that_was_asked_for_is_spoilt_and_every_error_is_told() -> None:
    gold = codings()
    given, errors = noise_spoilt.spoil(gold, CODES, TAXONOMY, 0.3, seed=1)
    changed = sum(set(g.codes) != set(s.codes) for g, s in zip(gold, given, strict=True))
    assert changed == pytest.approx(0.33 * len(gold), abs=25)
    kinds = {kind: sum(e.kind == kind for e in errors) for kind in experiment.KINDS}
    assert all(kinds.values()) and sum(kinds.values()) >= changed
    by_id = {coding.emr_id: coding.codes for coding in given}
    assert all((e.code in by_id[e.emr_id]) == (e.kind != "missing") for e in errors)


def test_a_wrong_code_takes_the_evidence_with_it_and_a_missing_one_loses_it() -> None:
    given, errors = noise_spoilt.spoil(codings(), CODES, TAXONOMY, 0.5, seed=1)
    kind_of = {e.emr_id: e.kind for e in errors if e.kind != "extra"}
    for coding in given:
        spans = {span.code for span in coding.evidence}
        assert spans <= set(coding.codes)
        assert bool(spans) == (kind_of.get(coding.emr_id) != "missing")


def test_nothing_is_spoilt_at_rate_0_and_the_same_seed_spoils_the_same() -> None:
    gold = codings()
    assert noise_spoilt.spoil(gold, CODES, TAXONOMY, 0.0, seed=1) == (gold, [])
    again = [noise_spoilt.spoil(gold, CODES, TAXONOMY, 0.3, seed=2) for _ in range(2)]
    assert again[0] == again[1]


def small(seed: int = 0) -> experiment.Corpus:
    """Texts that tell their codes, among words that do not."""
    rng = np.random.default_rng(seed)
    gold, emrs = codings(), []
    for coding in gold:
        chance = " ".join(f"word{rng.integers(30)}" for _ in range(8))
        emrs.append(EMR(coding.emr_id, {"Text": f"sign{coding.codes[0][-1]} {chance}"}))
    return experiment.Corpus("small", emrs, gold, CODES)


def test_every_method_is_trained_and_the_auditor_is_judged() -> None:
    corpus = small()
    rows = [r for rate in (0.0, 0.3) for r in experiment.play(corpus, TAXONOMY, rate, seed=0)]
    experiment.add_costs(rows)
    ours = [row for row in rows if row["method"] == experiment.OURS]
    assert ours[1]["ap_missing"] > 0.8
    assert ours[1]["codes_right_after"] > ours[1]["codes_right_before"]
    assert ours[0]["cost"] == 0.0 and "ap_wrong" not in ours[0]
    judged = [goal["id"] for goal in experiment.goals(rows)]
    assert judged == ["cost_at_30, small", "missing_ap_at_30, small"]


def test_cases_are_read_with_their_most_frequent_codes(tmp_path: Path) -> None:
    case = {
        "id": "c1",
        "text": "fever",
        "codes": ["A", "A", "B"],
        "evidence": [["A", "", [[0, 5]]]],
    }
    lines = [json.dumps(case), json.dumps({**case, "id": "c2", "codes": ["B"], "evidence": []})]
    (tmp_path / "codiesp_es_traindev.jsonl").write_text("\n".join(lines))
    corpus = experiment.read(tmp_path, "es", top=1)
    assert corpus.codes == ("B",)
    assert targets(corpus.codings, ["A", "B"]).tolist() == [[True, True], [False, True]]
    with pytest.raises(DataError, match="cannot read"):
        experiment.read(tmp_path, "en")
    (tmp_path / "codiesp_en_traindev.jsonl").write_text('{"id": "c"}')
    with pytest.raises(DataError, match="cases with id, text"):
        experiment.read(tmp_path, "en")


def test_it_goes_on_after_it_was_stopped(monkeypatch: pytest.MonkeyPatch, begun_again: Any) -> None:
    monkeypatch.setattr(experiment, "simulated", small)
    monkeypatch.setattr(experiment.Taxonomy, "icd10cm", lambda: TAXONOMY)
    made = begun_again(partial(experiment.run, True, (1,)))
    assert made == [{"data": "simulated", "hash": "", "seed": 1, "noise": 0.3}]


def test_rare_codes_of_a_seed_that_are_there_are_not_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun_again: Any
) -> None:
    for language in experiment.LANGUAGES:
        cases = [
            {"id": f"c{i}", "text": "fever and cough", "codes": ["R50.9", "R05"][: 1 + i % 2]}
            for i in range(40)
        ]
        path = tmp_path / f"codiesp_{language}_traindev.jsonl"
        path.write_text("\n".join(map(json.dumps, cases)))
    looked: list[int] = []

    class Loaded:
        fingerprint = "f"

    def rare(corpus: Any, taxonomy: Any, encoder: Any, seed: int) -> list[dict[str, Any]]:
        looked.append(seed)
        return [{"data": "rare", "seed": seed, "noise": 0.0, "method": "none"}]

    def play(corpus: Any, taxonomy: Any, rate: float, seed: int) -> list[dict[str, Any]]:
        about = {"data": corpus.name, "noise": rate, "seed": seed, "method": experiment.OURS}
        return [{**about, "micro_f1": 0.5 - rate / 10}]

    monkeypatch.setattr(noise_rare.Encoder, "load", Loaded)
    monkeypatch.setattr(experiment, "simulated", small)
    monkeypatch.setattr(experiment.Taxonomy, "icd10cm", lambda: TAXONOMY)
    monkeypatch.setattr(noise_rare, "rare_rows", rare)
    monkeypatch.setattr(experiment, "play", play)
    made = begun_again(partial(experiment.run, False, (1, 2), data=tmp_path), after=25)
    assert looked == [1, 2, 1, 2] and [key["seed"] for key in made] == [2]
