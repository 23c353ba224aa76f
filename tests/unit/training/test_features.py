import logging

import numpy as np
import pytest

from label_config.errors import CheckpointError
from label_config.record import EMR
from training import features as features_module
from training.features import FeatureStore, read_shard, write_shard
from training.words import record_features

TEXTS = ["cough and fever", "high glucose, thirst", "疼痛 and vomiting", "..."]


def emrs() -> list[EMR]:
    return [EMR(f"emr-{i}", {"Illness": text, "Exam": "stable"}) for i, text in enumerate(TEXTS)]


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """How many records each call of the encoder was given."""
    sizes: list[int] = []

    def counted(encoder, records):
        sizes.append(len(records))
        return record_features(encoder, records)

    monkeypatch.setattr(features_module, "record_features", counted)
    return sizes


def same(left, right) -> bool:
    names = ("states_VD", "nodes_W", "sections_W", "spans_W2", "cls_D", "mean_D")
    return left.sections == right.sections and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in names
    )


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_text_goes_through_the_encoder_once(tiny_encoder, tmp_path, runs, on_disk):
    store = FeatureStore(tiny_encoder, tmp_path if on_disk else None)
    first = store.features(emrs())
    again = store.features(emrs()[::-1])[::-1]
    assert sum(runs) == 4
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_a_new_store_reads_what_an_older_one_wrote(tiny_encoder, tmp_path, runs):
    written = FeatureStore(tiny_encoder, tmp_path).features(emrs())
    read = FeatureStore(tiny_encoder, tmp_path).features(emrs())
    assert sum(runs) == 4
    assert all(same(a, b) for a, b in zip(written, read, strict=True))
    assert isinstance(read[0].states_VD, np.memmap)


def test_equal_texts_share_one_pass_and_a_changed_text_gets_its_own(tiny_encoder, runs):
    store = FeatureStore(tiny_encoder)
    store.features([EMR("a", {"Illness": "fever"}), EMR("b", {"Illness": "fever"})])
    store.features([EMR("a", {"Illness": "fever and cough"})])
    assert runs == [1, 1]


def test_another_encoder_does_not_read_this_ones_features(tiny_encoder, tmp_path, runs):
    FeatureStore(tiny_encoder, tmp_path).features(emrs())
    other = object.__new__(type(tiny_encoder))
    other.__dict__ = {**tiny_encoder.__dict__, "checksum": "f" * 64}
    FeatureStore(other, tmp_path).features(emrs())
    assert sum(runs) == 8


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_named_and_built_again(
    tiny_encoder, tmp_path, runs, caplog, ending, damage
):
    good = FeatureStore(tiny_encoder, tmp_path).features(emrs())
    good = [record_features(tiny_encoder, [dict(e.sections)])[0] for e in emrs()]
    (path,) = tmp_path.rglob(f"*.{ending}")
    content = path.read_bytes()
    if damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        repaired = FeatureStore(tiny_encoder, tmp_path).features(emrs())
    assert sum(runs) == 8
    for a, b in zip(good, repaired, strict=True):
        np.testing.assert_allclose(a.states_VD, b.states_VD, atol=5e-3)
    if not (ending == "npz" and damage == "remove"):  # then nothing is left to name
        assert path.stem in caplog.text
    assert "fever" not in caplog.text


def test_a_shard_reads_back_what_was_written(tiny_encoder, tmp_path):
    records = record_features(tiny_encoder, [dict(emr.sections) for emr in emrs()])
    shard = {f"key{i}": record for i, record in enumerate(records)}
    found = read_shard(write_shard(tmp_path, shard))
    assert list(found) == list(shard)
    assert all(same(found[key], shard[key]) for key in shard)


def test_a_foreign_file_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "foreign.npz", numbers=np.arange(3))
    with pytest.raises(CheckpointError, match=r"foreign\.npz"):
        read_shard(tmp_path / "foreign.npz")


def test_the_cache_holds_no_text_and_no_id(tiny_encoder, tmp_path):
    FeatureStore(tiny_encoder, tmp_path).features([EMR("patient-77", {"Illness": "zebra bite"})])
    for path in tmp_path.rglob("*"):
        assert "patient-77" not in path.name
        if path.is_file():
            assert b"zebra" not in path.read_bytes()


def test_memory_is_bounded_by_the_limit(tiny_encoder, runs):
    store = FeatureStore(tiny_encoder, limit=2)
    store.features(emrs())
    store.features(emrs()[2:])
    assert sum(runs) == 4
    store.features(emrs()[:1])
    assert sum(runs) == 5


def test_progress_reaches_the_number_of_records(tiny_encoder):
    seen: list[tuple[int, int]] = []
    FeatureStore(tiny_encoder).features(emrs(), progress=lambda d, t: seen.append((d, t)))
    assert seen[-1] == (4, 4)
