import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.errors import DataError
from label_config.files import (
    atomic_path,
    coding_from_dict,
    data_hash,
    emr_from_dict,
    read_codings,
    read_emrs,
    to_dict,
    write_records,
)
from label_config.record import EMR, Coding, Diagnosis, EvidenceSpan

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
ids = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=20)
emrs = st.builds(
    EMR,
    emr_id=ids,
    sections=st.dictionaries(st.sampled_from(["Chief complaint", "现病史"]), text, max_size=2),
    diagnoses=st.lists(
        st.builds(Diagnosis, name=text.filter(str.strip), code=st.none() | st.just("I10")),
        min_size=1,
        max_size=3,
    ).map(tuple),
    patient_id=st.none() | ids,
    sex=st.sampled_from([None, "female", "male"]),
    age=st.none() | st.floats(0, 130),
)


def some_emrs(count: int) -> list[EMR]:
    return [EMR(f"e{i}", {"Chief complaint": f"cough for {i} days"}) for i in range(count)]


def some_codings() -> list[Coding]:
    evidence = (EvidenceSpan("I10", "Past history", 0, 5, 0.5),)
    return [
        Coding("e1", ("I10", "J18.9"), "noisy", confidence=(0.5, 0.25)),
        Coding("e2", ("I10",), "clean", evidence=evidence, coder="7", seconds=31.5, note="ok"),
        Coding("e3", (), "gold"),
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
class TestEitherFormat:
    @given(records=st.lists(emrs, unique_by=lambda e: e.emr_id, max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_any_emr_comes_back_equal(self, ending: str, records: list[EMR], tmp_path_factory):
        path = tmp_path_factory.mktemp("emrs") / f"pool{ending}"
        assert write_records(path, records, EMR) == len(records)
        report = read_emrs(path)
        assert report.records == records
        assert report.problems == []

    def test_codings_come_back_equal(self, ending: str, tmp_path: Path):
        path = tmp_path / f"clean{ending}"
        write_records(path, some_codings(), Coding)
        assert read_codings(path).records == some_codings()

    def test_a_repeated_emr_id_is_reported_with_the_place_of_the_first(
        self, ending: str, tmp_path: Path
    ):
        path = tmp_path / f"pool{ending}"
        first = some_emrs(2)
        write_records(path, [*first, first[0]], EMR)
        report = read_emrs(path)
        assert [e.emr_id for e in report.records] == ["e0", "e1"]
        assert len(report.problems) == 1
        assert "already on" in report.problems[0].reason

    def test_a_stream_larger_than_one_row_group_keeps_its_order(self, ending: str, tmp_path: Path):
        path = tmp_path / f"pool{ending}"
        records = some_emrs(2_500)
        write_records(path, iter(records), EMR)
        assert read_emrs(path).records == records


def test_three_broken_lines_among_a_thousand_are_named_and_the_rest_is_kept(tmp_path: Path):
    lines = [json.dumps(to_dict(e)) for e in some_emrs(1_000)]
    lines[9] = lines[9][:-5]
    lines[499] = json.dumps({"emr_id": "x", "sections": {"Plan": 7}})
    lines[999] = json.dumps({"sections": {"Plan": "secret words"}})
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(lines))
    report = read_emrs(path)
    assert len(report.records) == 997
    assert [p.where for p in report.problems] == ["line 10", "line 500", "line 1000"]
    assert report.problems[1].reason == "sections must map names to texts"
    assert not any("secret" in str(p) for p in report.problems)


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[1]", b"{", b"[" * 100_000, b'{"emr_id": 3, "sections": {"a": "b"}}', b"null"],
)
def test_any_kind_of_broken_line_is_a_problem_and_never_a_crash(line: bytes, tmp_path: Path):
    path = tmp_path / "pool.jsonl"
    path.write_bytes(line + b"\n")
    report = read_emrs(path)
    assert report.records == []
    assert len(report.problems) == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"emr_id": "e2", "sections": {"History": "cut in half \ud83d"}},
        {"emr_id": "e2", "sections": {"His\ud83dtory": "cough"}},
        {"emr_id": "e2\ud83d", "diagnoses": ["cough"]},
        {"emr_id": "e2", "diagnoses": ["cough \ud83d"]},
        {"emr_id": "e2", "diagnoses": [{"name": "cough", "code": 5}]},
        {"emr_id": "e2", "diagnoses": ["cough"], "age": 10**309},
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_what_no_file_can_hold_is_a_problem_and_the_rest_is_written(
    broken: dict, ending: str, tmp_path: Path
):
    path = tmp_path / "pool.jsonl"
    good = [{"emr_id": name, "diagnoses": ["cough"]} for name in ("e1", "e3")]
    path.write_text("\n".join(map(json.dumps, [good[0], broken, good[1]])), "utf-8")
    report = read_emrs(path)
    assert [problem.where for problem in report.problems] == ["line 2"]
    write_records(tmp_path / f"again{ending}", report.records, EMR)
    assert [emr.emr_id for emr in read_emrs(tmp_path / f"again{ending}").records] == ["e1", "e3"]


@pytest.mark.parametrize(
    "changed",
    [{"start": 1.5}, {"end": 2**31}, {"code": None}, {"score": "0.5"}, {"section": "a\ud83d"}],
)
def test_evidence_that_no_file_can_hold_is_refused(changed: dict):
    span = {"code": "I10", "section": "History", "start": 1, "end": 2} | changed
    with pytest.raises(DataError):
        coding_from_dict({"emr_id": "e", "source": "clean", "codes": [], "evidence": [span]})


def test_a_damaged_page_of_a_parquet_file_names_the_file(tmp_path: Path):
    path = tmp_path / "pool.parquet"
    write_records(path, some_emrs(500), EMR)
    content = bytearray(path.read_bytes())
    content[8:600] = b"\xff" * 592
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"pool\.parquet is damaged after row 0"):
        read_emrs(path)


def test_a_file_that_is_missing_or_of_another_kind_is_refused_by_name(tmp_path: Path):
    with pytest.raises(DataError, match="no file at"):
        read_emrs(tmp_path / "none.jsonl")
    other = tmp_path / "pool.parquet"
    other.write_text("not parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_emrs(other)
    with pytest.raises(DataError, match="must end in"):
        write_records(tmp_path / "pool.csv", some_emrs(1), EMR)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path):
    path = tmp_path / "pool.jsonl"
    write_records(path, some_emrs(1), EMR)

    def broken():
        yield some_emrs(1)[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_records(path, broken(), EMR)
    assert len(read_emrs(path).records) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["pool.jsonl"]


def test_atomic_path_makes_missing_folders(tmp_path: Path):
    with atomic_path(tmp_path / "a" / "b.txt") as path:
        path.write_text("x")
    assert (tmp_path / "a" / "b.txt").read_text() == "x"


def test_diagnoses_may_be_plain_names_and_sections_a_list():
    emr = emr_from_dict(
        {"emr_id": "e", "sections": [{"name": "Plan", "text": "rest"}], "diagnoses": ["flu"]}
    )
    assert emr.sections == {"Plan": "rest"}
    assert emr.diagnoses == (Diagnosis("flu"),)


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(DataError, match="'emr_od'"):
        emr_from_dict({"emr_od": "e"})
    with pytest.raises(DataError, match="source"):
        coding_from_dict({"emr_id": "e", "codes": [], "source": "guess"})


def test_the_data_hash_changes_with_any_record():
    one, two = some_emrs(2)
    assert data_hash([one, two]) == data_hash([one, two])
    assert data_hash([one, two]) != data_hash([two, one])
