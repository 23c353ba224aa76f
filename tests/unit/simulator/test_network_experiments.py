"""The network's experiments on a few EMRs, with a real but random encoder and a few epochs."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from label_config.measured import Measured
from label_config.record import EMR, Coding, EvidenceSpan
from simulator import hospital
from simulator.experiments import (
    network_data,
    network_distil,
    network_fig6,
    network_fusion,
    network_parts,
    network_rivals,
    network_table2,
    network_table3,
    network_table4,
    network_transfer,
    network_trial,
)
from simulator.experiments.network_data import Pool, Site, knowledge
from simulator.experiments.network_plot import Changes
from training.encoder import Encoder
from training.rival_models import RIVALS
from training.stages import StagesConfig

CODES = ("E11.9", "E11.6", "I10", "J18.9")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A one-layer encoder with random weights."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    titles = [knowledge().taxonomy.title(code) for code in knowledge().codes[:200]]
    tokenizer.train_from_iterator(titles, trainer)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    BertModel(shape).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return Encoder.load(str(folder), precision="float32")


@pytest.fixture
def small(monkeypatch, encoder):
    """Everything that an experiment does, in seconds."""
    quick = StagesConfig.quick()
    tiny = dataclasses.replace(
        quick,
        extractor=dataclasses.replace(quick.extractor, hidden=8, attention=8),
        raw=dataclasses.replace(quick.raw, epochs=1),
        noisy=dataclasses.replace(quick.noisy, epochs=1),
        clean=dataclasses.replace(quick.clean, epochs=2),
    )
    monkeypatch.setattr(
        StagesConfig, "quick", lambda *, seed=0: dataclasses.replace(tiny, seed=seed)
    )
    monkeypatch.setattr(Encoder, "load", lambda **_: encoder)
    for name in ("hph", "aph"):
        short = dataclasses.replace(hospital.PROFILES[name], words=200, words_wide=None)
        monkeypatch.setitem(hospital.PROFILES, name, short)
    monkeypatch.setattr(hospital, "CALIBRATION_VISITS", 30)
    monkeypatch.setattr(hospital, "CALIBRATION_TEXTS", (6,))
    monkeypatch.setattr(network_rivals, "QUICK_EPOCHS", 1)
    monkeypatch.setattr(network_trial, "QUICK_SIZES", (4, 8, 14, 10))


def made(n):
    """A pool whose text does not matter: frequent codes, and one in every tenth EMR."""
    rng = np.random.default_rng(0)
    emrs = [EMR(f"e{i}", {"History": f"EMR number {i}."}) for i in range(n)]
    gold = []
    for i, emr in enumerate(emrs):
        codes = ["I10", "E11.9"] if rng.random() < 0.5 else ["I10"]
        codes += ["J18.9"] * (i % 10 == 0) + ["E11.6"] * (i % 20 == 5)
        gold.append(Coding(emr.emr_id, tuple(codes), "gold"))
    noisy = [Coding(g.emr_id, g.codes, "noisy", (0.8,) * len(g.codes)) for g in gold]
    return Pool(emrs, noisy, gold, emrs, gold, CODES, knowledge().taxonomy)


def test_in_a_ward_of_a_pool_every_emr_is_either_clean_or_noisy():
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


def test_both_policies_annotate_equally_many_and_coverage_reaches_the_rare_codes():
    drawn, size = made(200), network_table4.Size(200, 200, annotated=30, batch=10, quota=8)
    clean = {}
    for policy in network_table4.POLICIES:
        rows = network_table4.choose(policy, drawn, size, seed=1)
        assert len(set(rows.tolist())) == 30
        assert (rows == network_table4.choose(policy, drawn, size, seed=1)).all()
        clean[policy] = network_data.targets([drawn.gold[i] for i in rows], CODES).sum(0)
    assert clean["coverage"].min() >= 8 > clean["random"].min()


def test_a_chapter_is_judged_by_its_own_codes_on_emrs_that_set_no_threshold():
    drawn = made(60)
    truth = network_data.targets(drawn.unseen_codings, CODES)
    probs = np.where(truth, 0.9, 0.1)
    first = round(network_trial.VALIDATION * 60)
    probs[first:, CODES.index("J18.9")] = 0.1
    rows = {r["chapter"]: r for r in network_table4.by_chapter(probs, drawn, truth.sum(0))}
    chapter = {code: drawn.taxonomy.chapter(code) for code in CODES}
    assert rows[chapter["J18.9"]]["micro_f1"] == 0 and rows[chapter["I10"]]["micro_f1"] == 1
    assert rows[chapter["E11.9"]]["codes"] == 2
    assert rows["all"]["clean"] == truth.sum() and 0 < rows["all"]["micro_f1"] < 1


def test_noisy_codes_count_by_their_confidence():
    codings = [Coding("a", ("I10", "Z99.9"), "noisy", (0.4, 0.1)), Coding("b", ("J18.9",), "noisy")]
    assert network_rivals.confidences(codings, CODES).tolist() == [[1, 1, 0.4, 1], [1, 1, 1, 1]]
    matrix = network_table4.confidence_matrix(codings[:1], CODES)
    assert matrix.shape == (1, 4) and matrix[0, 2] == np.float32(0.4) and matrix.nnz == 1


def test_the_sparse_model_teaches_what_it_reads_in_all_emrs_of_a_ward():
    words = {"I10": "pressure", "J18.9": "cough"}
    given = [["I10"], ["J18.9"], ["I10", "J18.9"], []] * 8
    emrs = [
        EMR(f"e{i}", {"History": " ".join(["seen", *(words[c] for c in codes)])})
        for i, codes in enumerate(given)
    ]
    codings = [Coding(e.emr_id, tuple(c), "clean") for e, c in zip(emrs, given, strict=True)]
    pool = Pool(emrs, codings, codings, [], [], CODES, knowledge().taxonomy)
    raw = [EMR("r1", {"History": "seen cough"}), EMR("r2", {"History": "seen nothing"})]
    ward = dataclasses.replace(pool.ward(range(24)), raw=raw)
    taught = network_distil.taught_by_sparse(ward, seed=1)
    assert list(taught.emrs) == [*ward.clean, *ward.noisy, *raw]
    known = taught.probs_NK[:, [CODES.index(code) for code in words]] > 0.5
    assert known[-2:].tolist() == [[False, True], [False, False]]
    truth = network_data.targets([*ward.clean_codings, *ward.noisy_codings], tuple(words))
    assert (known[:-2] == truth).mean() > 0.9


def test_a_network_is_taught_where_its_settings_say_so(small, encoder, tmp_path, monkeypatch):
    data, seen = made(24).ward(range(12)), []
    real = network_trial.train_network
    monkeypatch.setattr(
        network_trial,
        "train_network",
        lambda *emrs, **how: seen.append(how["taught"]) or real(*emrs, **how),
    )
    parts = network_parts.parts(StagesConfig.quick())
    for name in ("whole", "taught by the sparse model"):
        network_trial.train(data, parts[name], encoder, tmp_path, seed=1)
    assert seen[0] is None and len(seen[1].emrs) == 24


def test_every_part_differs_from_the_whole():
    parts = network_parts.parts(StagesConfig.quick())
    assert len(set(map(repr, parts.values()))) == len(parts) and next(iter(parts)) == "whole"


@pytest.mark.parametrize("quick", [True, False])
def test_every_rival_has_the_same_budget(quick):
    tried = [network_rivals.settings(name, seed=3, quick=quick) for name in RIVALS]
    grids = [{dataclasses.replace(one, model="CAML") for one in grid} for grid in tried]
    assert all(grid == grids[0] and len(grid) == len(tried[0]) for grid in grids)


def test_a_change_elsewhere_is_against_the_network_trained_there():
    pairs = {("a", "a"): 0.8, ("a", "b"): 0.5, ("b", "b"): 0.9, ("b", "a"): 0.7}
    rows = [{"trained": t, "judged": j, "micro_f1": f1} for (t, j), f1 in pairs.items()]
    changes = [row["change"] for row in network_transfer.with_changes(rows)]
    assert changes == pytest.approx([0, -0.4, 0, -0.1])


def test_effort_and_noise_are_compared_over_the_whole_grid(tmp_path):
    cells = {(30, 0.1): 0.5, (90, 0.1): 0.7, (30, 0.4): 0.3, (90, 0.4): 0.6}
    rows = [
        {"noise": noise, "clean": clean, "seed": seed, "micro_f1": f1 + seed / 100}
        for seed in (1, 2)
        for (clean, noise), f1 in cells.items()
    ]
    effort, noise = network_fig6.goals(rows)
    assert effort["value"] == pytest.approx(0.25) and effort["met"]
    assert noise["value"] == pytest.approx(-0.15) and noise["met"] and "interval" in noise
    network_fig6.Figure(rows).draw(tmp_path / "fig6.png")
    assert (tmp_path / "fig6.png").read_bytes().startswith(b"\x89PNG")


def corpus(**changed):
    """An empty one."""
    empty = network_fusion.Corpus("here", [], [], [], [], [], [], CODES, knowledge().taxonomy)
    return dataclasses.replace(empty, **changed)


def test_every_option_is_compared_where_the_corpus_has_something_for_it():
    stages, emr = StagesConfig.quick(), EMR("e", {"History": "seen"})
    marked = Coding("e", ("I10",), "clean", evidence=(EvidenceSpan("I10", "History", 0, 4),))
    few = network_fusion.variants(stages, corpus(clean=[Coding("e", ("I10",), "clean")]))
    assert not {"no evidence", "no unlabelled EMRs"} & set(few)
    assert few["with Hill loss"].clean.codes_loss == "hill"
    many = corpus(raw=[emr], noisy=[Coding("e", ("I10",), "noisy")], clean=[marked])
    variants = network_fusion.variants(stages, many)
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


def test_table_3_takes_the_full_code_set(asked):
    for quick in (True, False):
        network_table3.run(quick, (5,))
    (few, how), (every, _) = asked
    assert [site.codes for site in how["sites"]] == [len(knowledge().codes)]
    assert {"BERT", "PLM-CA"} < set(few) < set(every) and set(RIVALS) < set(every)


def test_ours_and_theirs_are_compared_on_the_same_emrs_and_repeat_themselves(small, monkeypatch):
    monkeypatch.setattr(network_trial, "QUICK_SEEDS", 1)
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


def test_table_4_has_a_row_per_policy_and_chapter(small, monkeypatch):
    size = network_table4.Size(pool=30, unseen=20, annotated=12, batch=4, quota=3)
    monkeypatch.setattr(network_table4, "QUICK", size)
    measured = network_table4.run(True, (5,))
    by_policy = {p: [r for r in measured.rows if r["policy"] == p] for p in ("random", "coverage")}
    chapters = [[row["chapter"] for row in rows] for rows in by_policy.values()]
    assert chapters[0] == chapters[1] and chapters[0][0] == "all" and len(chapters[0]) > 5
    assert len(measured.goals) == 3


def test_fig_6_has_a_row_per_case(small, monkeypatch, tmp_path):
    grid = network_fig6.Grid(pool=20, unseen=12, efforts=(11, 15), noise=(0.1, 0.5))
    monkeypatch.setattr(network_fig6, "QUICK", grid)
    measured = network_fig6.run(True, (5,))
    cases = [(row["noise"], row["clean"]) for row in measured.rows]
    assert cases == [(0.1, 11), (0.1, 15), (0.5, 11), (0.5, 15)]
    measured.figure(tmp_path / "fig6.svg")
    assert (tmp_path / "fig6.svg").stat().st_size > 1000


def test_transfer_judges_every_network_everywhere(small, monkeypatch):
    monkeypatch.setattr(network_transfer, "QUICK_SIZES", (0, 6, 12, 10))
    measured = network_transfer.run(True, (5,))
    pairs = {(row["trained"], row["judged"]) for row in measured.rows}
    assert len(pairs) == len(measured.rows) == len(network_transfer.PLACES) ** 2
    assert all(row["change"] == 0 for row in measured.rows if row["trained"] == row["judged"])


def test_the_fusion_is_trained_with_each_option_on_members_trained_once(small, monkeypatch):
    monkeypatch.setattr(network_fusion, "QUICK_SIZES", (4, 6, 24, 10))
    monkeypatch.setattr(network_fusion, "QUICK_SEEDS", 1)
    rows = ("without network", "all", "with the sparse model as teacher", "with Hill loss")
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


@pytest.mark.parametrize("language", ["en", "es"])
def test_codiesp_gives_evidence_of_its_frequent_codes_and_unlabelled_emrs(
    tmp_path, language, monkeypatch
):
    def case(i: int, text: str, code: str) -> dict[str, object]:
        return {"id": f"c{i}", "text": text, "codes": [code], "evidence": [[code, "", [[0, 5]]]]}

    coded = [case(i, "fever", "J18.9" if i else "I10") for i in range(6)]
    raw = [case(9, "line one\u2028line two", ""), case(10, "fever", "")]
    for split, cases in (("traindev", coded), ("background_unlabelled", raw)):
        lines = [json.dumps(one, ensure_ascii=False) for one in cases]
        path = tmp_path / f"codiesp_{language}_{split}.jsonl"
        path.write_text("\n".join(lines), "utf-8")
    monkeypatch.setattr(network_fusion, "TOP", 1)
    found = network_fusion._codiesp(tmp_path, language, quick=False, seed=1)
    assert found.codes == ("J18.9",) and found.name == f"CodiEsp {language.upper()}, 50 codes"
    assert [emr.emr_id for emr in found.raw] == ["c9", "c10"]
    assert (len(found.emrs), len(found.unseen)) == (4, 2)
    for coding in [*found.clean, *found.truth]:
        assert set(coding.codes) == {span.code for span in coding.evidence} <= {"J18.9"}


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


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_changes_are_drawn_per_place_and_setting(tmp_path, ending):
    rows = [
        {"hospital": place, "setting": name, "change": change}
        for place, name, change in (("a", "x", 0.0), ("a", "y", -0.1), ("b", "x", 0.0))
    ]
    Changes(rows).draw(tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").stat().st_size > 1_000
