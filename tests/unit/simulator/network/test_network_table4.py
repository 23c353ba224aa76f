from functools import partial

import numpy as np

from simulator.experiments import network_data, network_table4, network_trial


def test_both_policies_annotate_equally_many_and_coverage_reaches_the_rare_codes(made):
    drawn, size = made(200), network_table4.Size(200, 200, annotated=30, batch=10, quota=8)
    clean = {}
    for policy in network_table4.POLICIES:
        rows = network_table4.choose(policy, drawn, size, seed=1)
        assert len(set(rows.tolist())) == 30
        assert (rows == network_table4.choose(policy, drawn, size, seed=1)).all()
        clean[policy] = network_data.targets([drawn.gold[i] for i in rows], drawn.codes).sum(0)
    assert clean["coverage"].min() >= 8 > clean["random"].min()


def test_a_chapter_is_judged_by_its_own_codes_on_emrs_that_set_no_threshold(made):
    drawn = made(60)
    truth = network_data.targets(drawn.unseen_codings, drawn.codes)
    probs = np.where(truth, 0.9, 0.1)
    first = round(network_trial.VALIDATION * 60)
    probs[first:, drawn.codes.index("J18.9")] = 0.1
    rows = {r["chapter"]: r for r in network_table4.by_chapter(probs, drawn, truth.sum(0))}
    chapter = {code: drawn.taxonomy.chapter(code) for code in drawn.codes}
    assert rows[chapter["J18.9"]]["micro_f1"] == 0 and rows[chapter["I10"]]["micro_f1"] == 1
    assert rows[chapter["E11.9"]]["codes"] == 2
    assert rows["all"]["clean"] == truth.sum() and 0 < rows["all"]["micro_f1"] < 1


def test_table_4_has_a_row_per_policy_and_chapter(small, monkeypatch):
    size = network_table4.Size(pool=30, unseen=20, annotated=12, batch=4, quota=3)
    monkeypatch.setattr(network_table4, "QUICK", size)
    measured = network_table4.run(True, (5,))
    by_policy = {p: [r for r in measured.rows if r["policy"] == p] for p in ("random", "coverage")}
    chapters = [[row["chapter"] for row in rows] for rows in by_policy.values()]
    assert chapters[0] == chapters[1] and chapters[0][0] == "all" and len(chapters[0]) > 5
    assert len(measured.goals) == 3


def test_table_4_goes_on_after_it_was_stopped(small, monkeypatch, begun_again):
    size = network_table4.Size(pool=30, unseen=20, annotated=12, batch=4, quota=3)
    monkeypatch.setattr(network_table4, "QUICK", size)
    made = begun_again(partial(network_table4.run, True, (5,)))
    assert [key["row"] for key in made] == ["coverage"]
