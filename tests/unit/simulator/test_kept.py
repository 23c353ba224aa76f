"""Rows that outlive their run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import ConfigError, DataError
from simulator.experiments import cells
from simulator.experiments.cells import Cell
from simulator.experiments.kept import NOTHING, KeptInFile, content_hash

ABOUT = {"experiment": "small", "quick": True, "commit": "abc"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two rows of an earlier run."""
    path = tmp_path / "kept.jsonl"
    kept = KeptInFile(path, ABOUT)
    for seed in (1, 2):
        kept.row({"seed": seed}, lambda seed=seed: {"f1": seed / 3})
    return path


def never() -> Any:
    raise AssertionError("this row is there")


def test_a_row_that_is_kept_is_not_made_again(file: Path) -> None:
    kept = KeptInFile(file, ABOUT)
    assert {"seed": 1} in kept and {"seed": 3} not in kept
    assert kept.row({"seed": 2}, never) == {"f1": 2 / 3}
    assert kept.row({"seed": 3}, lambda: {"f1": 1.0}) == {"f1": 1.0}
    assert KeptInFile(file, ABOUT).row({"seed": 3}, never) == {"f1": 1.0}


def test_every_row_is_on_the_disk_as_soon_as_it_is_made(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, synced, sync = KeptInFile(file, ABOUT), list[int](), os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(number) or sync(number))
    kept.row({"seed": 3}, lambda: [1])
    assert len(synced) == 1
    header, *rows = map(json.loads, file.read_text().splitlines())
    assert header == ABOUT and rows[-1] == {"key": {"seed": 3}, "value": [1]}


def test_wherever_a_run_was_killed_whole_rows_are_left(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda number: None)  # waits for the disk, hundreds of times
    whole = file.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        kept = KeptInFile(file, ABOUT)
        left = [seed for seed in (1, 2) if {"seed": seed} in kept]
        assert left == [1, 2][: max(0, sum(end <= size for end in ends) - 1)]
        kept.row({"seed": 9}, lambda: 9)
        assert KeptInFile(file, ABOUT).row({"seed": 9}, never) == 9


def test_a_last_line_that_the_disk_lost_is_dropped_and_one_before_it_is_an_error(
    file: Path,
) -> None:
    header, first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(header + first + bytes(len(second) - 1) + b"\n")
    kept = KeptInFile(file, ABOUT)
    assert {"seed": 1} in kept and {"seed": 2} not in kept
    assert file.read_bytes() == header + first
    file.write_bytes(header + bytes(20) + b"\n" + second)
    with pytest.raises(DataError, match=r"line 2 of .* is damaged"):
        KeptInFile(file, ABOUT)


@pytest.mark.parametrize(
    "other", [{"experiment": "large"}, {"quick": False}, {"commit": "def"}, {"gpu": "one"}]
)
def test_a_file_of_another_run_is_refused_and_both_are_named(
    file: Path, other: dict[str, Any]
) -> None:
    before = file.read_bytes() + b'{"key": {"seed": 3'
    file.write_bytes(before)
    [(name, value)] = other.items()
    with pytest.raises(ConfigError) as refused:
        KeptInFile(file, ABOUT | other)
    made, now = str(refused.value).split("; this run is ")
    assert f"{name} {ABOUT.get(name)}" in made and f"{name} {value}" in now
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"# A text\n\nof mine", b"a text", b'{"id": 1}\n', b"\x00\n"])
def test_a_file_that_holds_something_else_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "notes.md"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds no kept rows"):
        KeptInFile(path, ABOUT)
    assert path.read_bytes() == content


numbers = st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none() | st.text()


@given(st.dictionaries(st.text(), numbers | st.lists(numbers)))
def test_a_value_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "kept.jsonl"
    made = KeptInFile(path, ABOUT).row({"seed": 1}, lambda: value)
    read = KeptInFile(path, ABOUT).row({"seed": 1}, never)
    assert repr(made) == repr(read) == repr(value)


def test_numbers_of_numpy_come_back_as_they_will_be_read(tmp_path: Path) -> None:
    kept = KeptInFile(tmp_path / "kept.jsonl", ABOUT)
    value = {"n": np.int64(3), "f1": np.float64(0.1), "map": np.float32(0.5), "no": float("nan")}
    assert repr(kept.row({}, lambda: value)) == "{'n': 3, 'f1': 0.1, 'map': 0.5, 'no': nan}"


def test_nothing_keeps_nothing() -> None:
    made: list[int] = []
    for _ in range(2):
        NOTHING.row({"seed": 1}, lambda: made.append(1))
    assert len(made) == 2 and {"seed": 1} not in NOTHING


def test_the_hash_of_the_code_changes_with_the_code_and_with_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "simulator.experiments.kept.__file__", str(tmp_path / "simulator/a/kept.py")
    )
    (tmp_path / "simulator").mkdir()
    seen = [content_hash()]
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.yaml", "x"), ("c.csv", "x")):
        (tmp_path / "simulator" / name).write_text(text)
        seen.append(content_hash())
    assert len(set(seen)) == 5
    (tmp_path / "simulator" / "report.md").write_text("a report")
    assert content_hash() == seen[-1]


def test_cells_are_told_apart_and_come_in_their_order(tmp_path: Path) -> None:
    def cell(seed: int, make: Callable[[], Any]) -> Cell:
        return Cell({"seed": seed}, make)

    kept = KeptInFile(tmp_path / "kept.jsonl", ABOUT)
    cells.finished([cell(2, lambda: ("b", [{"row": 2}]))], 1, kept=kept)
    steps: list[tuple[int, int]] = []
    wanted = [cell(1, lambda: ("a", [{"row": 0}, {"row": 1}])), cell(2, never)]
    rows, data = cells.finished(wanted, 2, kept=kept, progress=lambda *at: steps.append(at))
    assert [row["row"] for row in rows] == [0, 1, 2] and steps == [(1, 2), (2, 2)]
    assert data == cells.hash_of_all(["a", "b"])
