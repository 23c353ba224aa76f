import json
from pathlib import Path

import numpy as np
import pytest

from label_config.errors import DataError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from simulator.experiments import noise as experiment
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
    given, errors = experiment.spoil(gold, CODES, TAXONOMY, 0.3, seed=1)
    changed = sum(set(g.codes) != set(s.codes) for g, s in zip(gold, given, strict=True))
    assert changed == pytest.approx(0.33 * len(gold), abs=25)
    kinds = {kind: sum(e.kind == kind for e in errors) for kind in experiment.KINDS}
    assert all(kinds.values()) and sum(kinds.values()) >= changed
    by_id = {coding.emr_id: coding.codes for coding in given}
    assert all((e.code in by_id[e.emr_id]) == (e.kind != "missing") for e in errors)


def test_a_wrong_code_takes_the_evidence_with_it_and_a_missing_one_loses_it() -> None:
    given, errors = experiment.spoil(codings(), CODES, TAXONOMY, 0.5, seed=1)
    kind_of = {e.emr_id: e.kind for e in errors if e.kind != "extra"}
    for coding in given:
        spans = {span.code for span in coding.evidence}
        assert spans <= set(coding.codes)
        assert bool(spans) == (kind_of.get(coding.emr_id) != "missing")


def test_nothing_is_spoilt_at_rate_0_and_the_same_seed_spoils_the_same() -> None:
    gold = codings()
    assert experiment.spoil(gold, CODES, TAXONOMY, 0.0, seed=1) == (gold, [])
    again = [experiment.spoil(gold, CODES, TAXONOMY, 0.3, seed=2) for _ in range(2)]
    assert again[0] == again[1]


def test_every_method_is_trained_and_the_auditor_is_judged() -> None:
    rng = np.random.default_rng(0)
    gold, emrs = codings(), []
    for coding in gold:
        chance = " ".join(f"word{rng.integers(30)}" for _ in range(8))
        emrs.append(EMR(coding.emr_id, {"Text": f"sign{coding.codes[0][-1]} {chance}"}))
    corpus = experiment.Corpus("small", emrs, gold, CODES)
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
