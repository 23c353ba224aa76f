import dataclasses

from label_config.record import EMR, Coding
from simulator.experiments import network_data, network_distil, network_parts, network_trial
from simulator.experiments.network_data import Pool, knowledge
from training.stages import StagesConfig

CODES = ("E11.9", "E11.6", "I10", "J18.9")


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


def test_a_network_is_taught_where_its_settings_say_so(small, made, encoder, tmp_path, monkeypatch):
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
