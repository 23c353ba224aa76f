import json
from pathlib import Path

import pytest

from label_config.errors import DataError, UnknownCode
from label_config.taxonomy import CodeEntry, Taxonomy, tree_json


@pytest.fixture(scope="module")
def icd() -> Taxonomy:
    return Taxonomy.icd10cm()


def csv_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "ward.csv"
    path.write_text("\n".join(["code,title,parent,synonyms", *lines]), "utf-8")
    return path


def test_icd10cm_is_whole_and_every_code_reaches_a_chapter(icd: Taxonomy):
    assert len(icd) > 90_000
    assert {icd[icd.chapter(e.code)].level for e in icd} == {"chapter"}


def test_a_block_named_like_its_only_category_gets_a_name_of_its_own(icd: Taxonomy):
    assert icd.ancestors("B99.8") == ("B99", "B99-B99", "1")
    assert [icd[c].level for c in icd.ancestors("B99.8")] == ["category", "block", "chapter"]


def test_levels_notes_and_synonyms_are_read(icd: Taxonomy):
    stroke = icd["I63.9"]
    assert stroke.title == "Cerebral infarction, unspecified"
    assert "Stroke NOS" in stroke.synonyms
    assert icd["E08"].code_first
    assert icd["E10"].excludes1
    assert icd.category("I63.312") == "I63"
    assert "I63.8" in icd.siblings("I63.9")
    assert "I63.9" not in icd.siblings("I63.9")


def test_the_cached_table_equals_the_parsed_one(icd: Taxonomy, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parsed = Taxonomy.icd10cm()
    cached = Taxonomy.icd10cm()
    assert list(parsed) == list(cached)


def test_a_damaged_cache_is_parsed_again(icd: Taxonomy, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "clinicoco").mkdir()
    Taxonomy.icd10cm()
    (cache,) = (tmp_path / "clinicoco").iterdir()
    cache.write_bytes(cache.read_bytes()[:1000])
    assert len(Taxonomy.icd10cm()) == len(icd)


@pytest.mark.parametrize("spelling", ["I63.9", "i63.9", "I639", " i639 "])
def test_codes_are_found_in_any_usual_spelling(icd: Taxonomy, spelling: str):
    assert icd.normalise(spelling) == "I63.9"


def test_an_unknown_code_is_named_with_near_ones(icd: Taxonomy):
    with pytest.raises(UnknownCode, match=r"'I63\.99' is not a code .* near it: .*I63\.9"):
        icd["I63.99"]


def test_a_csv_code_set_keeps_its_tree_and_round_trips(tmp_path: Path):
    path = csv_file(tmp_path, "I,循环系统疾病,,", "I10,高血压,I,HTN|high blood pressure")
    ward = Taxonomy.from_csv(path)
    assert ward.names("I10") == ("高血压", "HTN", "high blood pressure")
    assert ward.ancestors("I10") == ("I",)
    ward.to_csv(tmp_path / "copy.csv")
    assert list(Taxonomy.from_csv(tmp_path / "copy.csv")) == list(ward)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["I10,,,"], "line 2 needs a code and a title"),
        (["I10,a,I,"], "parent I, which is missing"),
        (["I10,a,,", "I10,b,,"], "twice"),
        (["A,a,B,", "B,b,A,"], "its own ancestor"),
        ([], "at least one code"),
    ],
)
def test_a_csv_that_is_no_tree_is_refused(tmp_path: Path, lines: list[str], reason: str):
    with pytest.raises(DataError, match=reason):
        Taxonomy.from_csv(csv_file(tmp_path, *lines))


def test_a_csv_without_the_columns_is_refused(tmp_path: Path):
    path = tmp_path / "ward.csv"
    path.write_text("id,name\n1,x\n")
    with pytest.raises(DataError, match="columns code and title"):
        Taxonomy.from_csv(path)


def test_the_tree_for_label_studio_shows_code_and_title_and_only_the_branches_asked_for():
    ward = Taxonomy(
        "ward",
        [
            CodeEntry("I", "Heart", None, "chapter"),
            CodeEntry("I10", "Hypertension", "I", "category"),
            CodeEntry("I48", "Fibrillation", "I", "category"),
        ],
    )
    tree = json.loads(tree_json(ward, ["I48"]))
    leaf = {"value": "I48 Fibrillation", "alias": "I48"}
    assert tree == {"items": [{"value": "I Heart", "alias": "I", "children": [leaf]}]}
    assert len(json.loads(tree_json(ward))["items"][0]["children"]) == 2
