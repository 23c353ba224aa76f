import pytest
import yaml

from label_config.errors import DataError
from label_config.taxonomy import Taxonomy
from simulator.knowledge import FOLDER, blemishes_of, load_pack

FAMILY = {
    "weight": 5,
    "age": "60 ± 10 (20-90)",
    "vague": {"J09-J18": ["chest infection"]},
    "complaint": ["cough | coughing"],
    "onset": ["days"],
    "symptoms": ["sputum | phlegm"],
    "negatives": ["leg pain"],
    "signs": {"lungs": ["crackles | crepitations"]},
    "tests": {"WBC": "14 ± 2 ×10^9/L (4-10)"},
    "drugs": ["penicillin"],
    "leaves": {
        "J13": {"names": ["pneumococcal pneumonia"], "symptoms": ["one chill | single rigor"]}
    },
}


@pytest.fixture(scope="module")
def taxonomy():
    return Taxonomy.icd10cm()


@pytest.fixture
def load(tmp_path, taxonomy):
    """Load a pack that holds one family, changed as a test wants."""

    def load_changed(change=lambda family: None):
        family = yaml.safe_load(yaml.safe_dump(FAMILY))
        change(family)
        (tmp_path / "en").mkdir(exist_ok=True)
        (tmp_path / "en" / "_wording.yaml").write_bytes(
            (FOLDER / "en" / "_wording.yaml").read_bytes()
        )
        (tmp_path / "en" / "ward.yaml").write_text(yaml.safe_dump({"pneumonia": family}))
        return load_pack("en", folder=tmp_path, taxonomy=taxonomy)

    return load_changed


def test_a_title_comes_from_the_taxonomy(load, taxonomy):
    assert load().by_code["J13"][1].title == taxonomy.title("J13")


def test_an_unknown_code_is_named_with_codes_near_it(load):
    with pytest.raises(DataError, match=r"ward\.yaml: pneumonia.*J13\.7.*near it"):
        load(lambda f: f["leaves"].update({"J13.7": f["leaves"].pop("J13")}))


def test_a_code_that_is_no_leaf_is_refused(load):
    with pytest.raises(DataError, match="not a leaf"):
        load(lambda f: f["leaves"].update({"J15": f["leaves"].pop("J13")}))


def test_a_leaf_that_nothing_tells_from_its_siblings_is_refused(load):
    with pytest.raises(DataError, match="unreachable"):
        load(lambda f: f["leaves"]["J13"].pop("symptoms"))


@pytest.mark.parametrize("key", ["symptoms", "negatives", "signs", "drugs", "tests"])
def test_a_family_without_evidence_for_a_section_is_refused(load, key):
    with pytest.raises(DataError, match=r"needs (evidence|tests)"):
        load(lambda f: f.pop(key))


def test_a_misspelt_key_is_named(load):
    with pytest.raises(DataError, match="no key 'symptom'"):
        load(lambda f: f.update(symptom=f.pop("symptoms")))


def test_the_packs_own_files_have_no_blemish(pack):
    assert blemishes_of(pack.families, pack.taxonomy) == []


def test_the_english_pack_is_broad(pack):
    assert len(pack.families) >= 150
    assert len(pack.codes) >= 600
    assert {code[0] for code in pack.codes} >= set("TEJKZNDOCRGBFI")
