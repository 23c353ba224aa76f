"""Exports into files and workspaces: the whole way, damaged ones, and large ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from label_config.errors import DataError
from label_config.files import read_codings, read_emrs, write_records
from label_config.mapping import CodeControl, ExportMapping
from label_config.record import EMR, Coding
from label_config.task import build_result, build_task
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.exports import export_to_files, export_to_workspace
from ml_backend.workspace import ProjectConfig, Workspace

CODES = ("I10", "I63.9", "J18.9")
MARKER = "Nora Secret"
MAPPING = ExportMapping(
    {"Note": "note"}, (CodeControl("icd"), CodeControl("marks", map={"Stroke": "I63.9"}))
)


@pytest.fixture(scope="module")
def tree() -> Taxonomy:
    return Taxonomy("small", (CodeEntry(code, code, None, "chapter") for code in CODES))


def quiet(*_: object) -> None:
    pass


def task(tree: Taxonomy, number: int, *codes: str, **more: object) -> dict:
    """A task of our interface, annotated, as an export holds it."""
    emr = EMR(f"e{number}", {"Plan": f"{MARKER} {number} rests."})
    made = build_task(emr, None, tree, batch="b", order=1)
    result = build_result(
        emr, codes, [], candidates=(), principal=None, quality="clean", taxonomy=tree
    )
    annotation = {"id": number, "result": result, "updated_at": "2026-01-02", "completed_by": 1}
    return {**made, "id": number, "annotations": [{**annotation, **more}]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    def write(tasks: object) -> Path:
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        return tmp_path / "export.json"

    return write


@pytest.fixture
def ward(tmp_path: Path, tree: Taxonomy) -> Workspace:
    config = ProjectConfig("Ward 7", CODES, taxonomy="taxonomy.csv")
    made = Workspace.create(tmp_path / "ward", config)
    tree.to_csv(made.folder / "taxonomy.csv")
    return made


def test_an_export_becomes_records_and_clean_codes(tmp_path: Path, tree, write) -> None:
    skipped = task(tree, 3, "I10", was_cancelled=True)
    found = export_to_files(
        write([task(tree, 1, "I10"), task(tree, 2, "J18.9", "I63.9"), skipped, 7]),
        tmp_path / "out",
        tree,
        progress=quiet,
    )
    assert (found.tasks, found.codings, found.new_emrs) == (4, 2, 2)
    assert [str(p) for p in found.problems] == [
        "task 3 annotation 3: skipped by the coder",
        "export: holds an entry that is not a task",
    ]
    emrs, codings = (tmp_path / "out" / f"{name}.parquet" for name in ("emrs", "clean"))
    assert [e.emr_id for e in read_emrs(emrs).records] == ["e1", "e2"]
    assert [c.codes for c in read_codings(codings).records] == [("I10",), ("J18.9", "I63.9")]


def test_of_an_emr_s_annotations_the_starred_or_latest_one_counts_whatever_their_order(
    tmp_path: Path, tree, write
) -> None:
    early = task(tree, 1, "I10")
    later = task(tree, 1, "I63.9", id=8, updated_at="2026-01-03")
    star = task(tree, 1, "J18.9", id=9, updated_at="2026-01-01", ground_truth=True)
    for tasks, codes in (([later, early], "I63.9"), ([early, later, star], "J18.9")):
        out = tmp_path / codes
        found = export_to_files(write(tasks), out, tree, progress=quiet)
        [coding] = read_codings(out / "clean.parquet").records
        assert coding.codes == (codes,)
        assert len(found.problems) == len(tasks) - 1


def test_codes_that_the_taxonomy_lacks_are_left_out_and_the_rest_is_unsure(
    tmp_path: Path, tree, write
) -> None:
    found = export_to_files(
        write([task(tree, 1, "i639", "X99", MARKER)]), tmp_path / "out", tree, progress=quiet
    )
    [coding] = read_codings(tmp_path / "out" / "clean.parquet").records
    assert (coding.codes, coding.quality) == (("I63.9",), "unsure")
    assert [p.reason for p in found.problems] == ["2 of its codes are not in small"]


def test_a_workspace_takes_new_emrs_once_and_trains_from_their_codes(
    ward: Workspace, tree, write
) -> None:
    write_records(ward.pool_path, [EMR("e1", {"Plan": f"{MARKER} 1 rests."})], EMR)
    export = write([task(tree, 1, "I10"), task(tree, 2, "I63.9")])
    found = export_to_workspace(export, ward, progress=quiet)
    assert (found.codings, found.new_emrs) == (2, 1)
    assert export_to_workspace(export, ward, progress=quiet).new_emrs == 0
    assert [e.emr_id for e in ward.read_pool()] == ["e1", "e2"]
    assert {c.emr_id: c.codes for c in ward.read_clean()} == {"e1": ("I10",), "e2": ("I63.9",)}


def test_what_coders_of_this_project_decide_stands_above_an_export_and_a_pull_keeps_both(
    ward: Workspace, tree, write
) -> None:
    export_to_workspace(write([task(tree, 1, "I10"), task(tree, 2, "I63.9")]), ward, progress=quiet)
    ward.write_clean([Coding("e1", ("J18.9",), "clean")])
    assert {c.emr_id: c.codes for c in ward.read_clean()} == {"e1": ("J18.9",), "e2": ("I63.9",)}


def test_an_emr_that_the_pool_knows_with_another_text_is_named_and_left_out(
    ward: Workspace, tree, write
) -> None:
    write_records(ward.pool_path, [EMR("e1", {"Plan": "Another text."})], EMR)
    export = write([task(tree, 1, "I10"), task(tree, 2, "I63.9")])
    found = export_to_workspace(export, ward, progress=quiet)
    assert [c.emr_id for c in ward.read_clean()] == ["e2"]
    assert "task 1 annotation 1: EMR e1 stands in the pool with another text" in [
        str(p) for p in found.problems
    ]


def test_an_export_cut_short_gives_what_came_before_and_says_so(
    tmp_path: Path, tree, write
) -> None:
    export = write([task(tree, 1, "I10"), task(tree, 2, "I63.9")])
    export.write_bytes(export.read_bytes()[:-40])
    found = export_to_files(export, tmp_path / "out", tree, progress=quiet)
    assert found.codings == 1
    assert "after 1 entries; what came before is taken" in found.problems[0].reason


def test_an_export_without_a_usable_annotation_writes_nothing(tmp_path: Path, tree, write) -> None:
    with pytest.raises(DataError, match="no usable annotation in 1 tasks; the first problem"):
        export_to_files(
            write([task(tree, 1, was_cancelled=True)]), tmp_path / "out", tree, progress=quiet
        )
    assert list((tmp_path / "out").iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(MARKER),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("id", "value", "labels", "text", "start", "end", "choices")), inner
        )
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: list) -> list:
    """The tasks with some part somewhere replaced by something else, a few times."""
    tasks = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        holder, key = tasks, draw(st.integers(0, len(tasks) - 1))
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 5)):
            holder = holder[key]
            keys = sorted(holder) if isinstance(holder, dict) else range(len(holder))
            key = draw(st.sampled_from(list(keys)))
        holder[key] = draw(JSON)
    return tasks


@pytest.mark.parametrize("mapping", [None, MAPPING], ids=["ours", "mapped"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_export_never_crashes_and_no_patient_text_is_in_what_is_said(
    tmp_path: Path, tree: Taxonomy, mapping: ExportMapping | None, data: st.DataObject
) -> None:
    marks = {"start": 0, "end": 4, "text": MARKER[:4], "labels": ["Stroke"]}
    foreign = {
        "id": 4,
        "data": {"note": f"{MARKER} had a stroke."},
        "annotations": [
            {
                "id": 4,
                "result": [
                    {"from_name": "icd", "value": {"choices": ["I10"]}},
                    {"from_name": "marks", "value": marks},
                ],
            }
        ],
    }
    whole = [task(tree, 1, "I10"), task(tree, 2, "I63.9"), foreign]
    export = tmp_path / "damaged.json"
    text = json.dumps(data.draw(damaged(whole)))
    export.write_text(text[: data.draw(st.integers(len(text) // 2, 2 * len(text)))])
    try:
        found = export_to_files(export, tmp_path / "out", tree, mapping, progress=quiet)
    except DataError as error:
        assert MARKER not in str(error)
    else:
        assert not any(MARKER in str(problem) for problem in found.problems)


MEASURE = """
import resource, sys
from pathlib import Path
from label_config.mapping import CodeControl, ExportMapping
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.exports import export_to_files

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def run(name):
    export = Path(sys.argv[1]) / name
    return export_to_files(export, export.with_suffix(""), tree, mapping, progress=lambda *_: None)

tree = Taxonomy("small", (CodeEntry(c, c, None, "chapter") for c in ("I10", "I63.9", "J18.9")))
mapping = ExportMapping({"Note": "note"}, (CodeControl("icd"),))
run("small.json")
before = peak()
print(run("large.json").codings, peak() - before)
"""


def test_twenty_thousand_annotations_stream_in_bounded_memory(tmp_path: Path) -> None:
    text = "Fever and cough for three days. " * 150

    def write(name: str, count: int) -> int:
        with (tmp_path / name).open("w") as file:
            for n in range(count):
                result = [{"from_name": "icd", "value": {"choices": [CODES[n % 3]]}}]
                annotation = {"id": n, "result": result, "prediction": {"result": result}}
                entry = {"id": n, "data": {"note": text}, "annotations": [annotation]}
                file.write(("," if n else "[") + json.dumps(entry))
            file.write("]")
        return (tmp_path / name).stat().st_size // 2**20

    write("small.json", 2_000)
    size = write("large.json", 20_000)
    run = [sys.executable, "-c", MEASURE, str(tmp_path)]
    codings, grown = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert int(codings) == 20_000
    assert size > 90, "MiB"
    assert int(grown) < 30, "MiB: a line per EMR beside one group of rows"
