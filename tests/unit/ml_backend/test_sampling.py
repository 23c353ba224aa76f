"""A project's sampler from its files: duplicates, what the model says, and the way to the end."""

import random
from pathlib import Path

import numpy as np
import pytest

from label_config.files import write_records
from label_config.record import EMR, Coding
from ml_backend import sampling, steps
from ml_backend.registry import Registry
from ml_backend.sampling import coverage
from ml_backend.workspace import ProjectConfig, Workspace

CODES = ("I10", "I48", "E11", "E03")
TREE = "code,title,parent\nI,i,\nE,e,\nI10,a,I\nI48,b,I\nE11,c,E\nE03,d,E\n"
LONG = "Admitted with chest pain, seen and sent home on day {day}. " * 6


class Model:
    """Says I48 of every EMR with an even number, and nothing of the others."""

    codes, version, clean_ids = CODES, "v2", ()
    asked: list[str]

    def predict(self, emrs, *, progress):
        progress("suggesting codes", len(emrs), len(emrs))
        self.asked += [emr.emr_id for emr in emrs]
        even = np.array([int(emr.emr_id[1:]) % 2 == 0 for emr in emrs])
        return np.where(even[:, None], [0.01, 0.97, 0.01, 0.01], [0.004, 0.003, 0.002, 0.001])


@pytest.fixture
def ward(tmp_path: Path) -> Workspace:
    """80 EMRs, of which e70 to e79 are copies of e0 to e9 on other days."""
    config = ProjectConfig("Ward 7", CODES, quota=10, taxonomy="tree.csv")
    workspace = Workspace.create(tmp_path / "ward", config)
    (workspace.folder / "tree.csv").write_text(TREE)
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=8)) for _ in range(70)]
    emrs = [EMR(f"e{n}", {"Plan": f"{words[n % 70]} " + LONG.format(day=n)}) for n in range(80)]
    write_records(workspace.pool_path, emrs, EMR)
    workspace.write_noisy(
        [Coding(f"e{n}", (CODES[n % 4],), "noisy", confidence=(0.9,)) for n in range(80)]
    )
    return workspace


def serve(workspace: Workspace, version: str, validation: dict[str, float]) -> None:
    (workspace.models_folder / version).mkdir(parents=True, exist_ok=True)
    registry = Registry(workspace.models_folder)
    registry.add(workspace.models_folder / version, version, validation)
    registry.promote(version)


@pytest.fixture
def model(ward: Workspace, monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    model.asked = []
    monkeypatch.setattr(sampling, "load_model", lambda folder: model)
    serve(ward, "v2", {"micro_f1": 0.8})
    return model


def finish(workspace: Workspace, emr_ids) -> None:
    """Coders agree with the noisy codes."""
    noisy = {c.emr_id: c for c in workspace.read_noisy()}
    coded = [Coding(i, noisy[i].codes, "clean") for i in emr_ids]
    workspace.write_clean([*workspace.read_clean(), *coded])


def test_copies_of_a_record_never_wait_together(ward):
    batch = steps.select(ward, 100)
    numbers = [int(i[1:]) % 70 for i in batch.emr_ids]
    assert len(set(numbers)) == len(numbers) > 20


def test_records_too_short_to_judge_are_no_copies(ward):
    write_records(ward.pool_path, [EMR(f"e{n}", {"Plan": "rest"}) for n in range(80)], EMR)
    assert coverage(ward).group is None


def test_a_new_pool_is_looked_through_anew_and_a_damaged_note_of_it_too(ward):
    before = coverage(ward).group.tolist()
    (ward.folder / "text_keys.parquet").write_bytes(b"cut short")
    assert coverage(ward).group.tolist() == before
    write_records(ward.pool_path, [EMR(f"e{n}", {"Plan": LONG}) for n in range(80)], EMR)
    assert np.unique(coverage(ward).group).size == 1


def test_batches_shrink_near_the_end(ward):
    sizes = []
    while batch := steps.select(ward, 24):
        sizes.append(len(batch.emr_ids))
        finish(ward, batch.emr_ids)
    assert sizes[0] > 20 > 2 * sizes[-1]
    assert {row["state"] for row in steps.coverage_rows(ward)} == {"met"}


def test_a_model_that_learned_from_coders_is_asked_about_the_likeliest_emrs_once(ward, model):
    steps.select(ward, 6)
    assert len(model.asked) == len(set(model.asked)) == 6
    before = set(model.asked)
    steps.select(ward, 6)
    assert len(model.asked) == len(set(model.asked)) <= 12
    assert before < set(model.asked)


def test_of_a_large_batch_the_model_is_asked_about_some_alone(ward, model, monkeypatch):
    monkeypatch.setattr(sampling, "MOST_ASKED", 4)
    assert len(steps.select(ward, 10).emr_ids) == 10
    assert len(model.asked) == 4


def test_a_model_of_names_and_noisy_codes_alone_is_not_asked(ward, model):
    serve(ward, "v3", {})
    steps.select(ward, 6)
    assert model.asked == []
    assert coverage(ward).suggested_NK is None


def test_what_the_model_says_counts_beside_the_noisy_codes(ward, model):
    before = coverage(ward).probabilities().toarray()
    steps.select(ward, 6)
    after = coverage(ward).probabilities().toarray()
    not_asked = [n for n in range(80) if f"e{n}" not in model.asked]
    assert (after[not_asked] == before[not_asked]).all()
    even = [int(i[1:]) for i in model.asked if int(i[1:]) % 2 == 0]
    assert even and (after[even, 1] > before[even, 1]).all()


def test_the_word_on_an_annotated_emr_stays_and_other_stale_ones_are_dropped(ward, model):
    batch = steps.select(ward, 6)
    finish(ward, batch.emr_ids)
    serve(ward, "v3", {"micro_f1": 0.9})
    spoken = np.flatnonzero(np.diff(coverage(ward).suggested_NK.indptr))
    assert {f"e{row}" for row in spoken} == set(batch.emr_ids) & set(model.asked) != set()


def test_a_damaged_note_of_what_was_said_is_made_anew(ward, model):
    steps.select(ward, 6)
    (ward.folder / "said.parquet").write_bytes(b"cut short")
    assert coverage(ward).suggested_NK is None
    steps.select(ward, 6)
    assert coverage(ward).suggested_NK is not None


def test_an_emr_that_the_model_has_learned_from_is_not_asked_about(ward, model):
    model.clean_ids = tuple(f"e{n}" for n in range(80))
    assert len(steps.select(ward, 6).emr_ids) == 6
    assert model.asked == []


def test_the_same_files_give_the_same_batch(ward, model):
    one, two = coverage(ward).query(10), coverage(ward).query(10)
    assert one.rows.tolist() == two.rows.tolist()


def test_the_reading_of_a_pool_is_told_as_it_goes(ward, model):
    told = []
    coverage(ward, progress=lambda *at: told.append(at)).query(5)
    assert told == [("suggesting codes", 5, 5)]
