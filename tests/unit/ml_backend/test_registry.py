from pathlib import Path

import pytest

from label_config.errors import CheckpointError, DataError
from label_config.files import write_json
from ml_backend.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "models")
    for number in (1, 2, 10):
        folder = registry.folder / f"v{number}-aa"
        folder.mkdir(parents=True)
        registry.add(folder, folder.name, {"micro_f1": number / 100})
    return registry


def test_versions_are_ordered_by_number_and_the_next_one_follows(registry: Registry):
    assert [v.version for v in registry.versions()] == ["v1-aa", "v2-aa", "v10-aa"]
    assert registry.next_number() == 11
    assert Registry(registry.folder / "none").next_number() == 1


def test_nothing_serves_before_the_first_promotion(registry: Registry):
    assert registry.live() is None


def test_rollback_returns_to_the_version_before(registry: Registry):
    registry.promote("v1-aa")
    registry.promote("v10-aa")
    assert registry.live() == registry["v10-aa"]
    assert registry.rollback().version == "v1-aa"
    live = registry.live()
    assert live is not None and live.version == "v1-aa"
    with pytest.raises(CheckpointError, match="no earlier"):
        registry.rollback()


def test_promoting_twice_leaves_one_entry_in_the_history(registry: Registry):
    for version in ("v1-aa", "v2-aa", "v1-aa"):
        registry.promote(version)
    assert registry.rollback().version == "v2-aa"


def test_an_unknown_version_is_refused_with_the_known_ones(registry: Registry):
    with pytest.raises(CheckpointError, match="no model version 'v3'; there are: v1-aa, v2-aa"):
        registry.promote("v3")


def test_a_folder_without_its_registry_entry_is_no_version(registry: Registry):
    (registry.folder / "v11-half").mkdir()
    assert registry.next_number() == 11


def test_a_model_folder_elsewhere_is_refused(registry: Registry, tmp_path: Path):
    with pytest.raises(CheckpointError, match="must be"):
        registry.add(tmp_path / "v1", "v1", {})


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"version": 3}'])
@pytest.mark.parametrize("name", ["live.json", "v2-aa.json"])
def test_a_damaged_file_is_named(registry: Registry, name: str, content: str):
    registry.promote("v10-aa")
    (registry.folder / name).write_text(content)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        registry.live()


def test_a_version_with_codes_that_the_project_no_longer_has_does_not_serve(registry: Registry):
    for version, codes in (("v1-aa", ["I10", "X1"]), ("v2-aa", ["I10"]), ("v10-aa", ["I10"])):
        write_json(registry.folder / version / "config.json", {"codes": codes})
    registry.promote("v1-aa", ["I10", "X1"])
    registry.promote("v2-aa", ["I10", "J18"])  # a project may have grown
    with pytest.raises(CheckpointError, match=r"v1-aa suggests codes .* no longer has: X1; run"):
        registry.promote("v1-aa", ["I10", "J18"])
    with pytest.raises(CheckpointError, match="no longer has: X1"):
        registry.rollback(["I10", "J18"])
    live = registry.live()
    assert live is not None and live.version == "v2-aa"
    (registry.folder / "v10-aa" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="v10-aa is missing or damaged"):
        registry.promote("v10-aa", ["I10"])
