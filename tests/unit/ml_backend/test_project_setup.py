"""What a set-up needs to know before it asks Label Studio for anything."""

from __future__ import annotations

import pytest

from label_config.errors import ConfigError
from ml_backend.label_studio import LabelStudioClient
from ml_backend.project_setup import SetupConfig
from ml_backend.task_pages import ID_CHARACTERS_PER_QUERY, chunks_of_text


def test_the_code_tree_comes_from_the_backend_unless_told_otherwise() -> None:
    config = SetupConfig("demo", backend_url="http://10.0.0.7:9090/")
    assert 'apiUrl="http://10.0.0.7:9090/taxonomy.json"' in config.interface
    other = SetupConfig("demo", backend_url="http://a:1", taxonomy_url="https://b/tree.json")
    assert 'apiUrl="https://b/tree.json"' in other.interface


@pytest.mark.parametrize(
    "settings", [{"title": "ab", "backend_url": "http://a:1"}, {"title": "abc"}]
)
def test_a_project_that_could_not_work_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="needs"):
        SetupConfig(**settings)


def test_a_client_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        LabelStudioClient("http://127.0.0.1:8080", "")


def test_ids_are_asked_for_in_addresses_that_servers_take() -> None:
    ids = [f"EMR-{i}.x" for i in range(500)]
    chunks = list(chunks_of_text(ids))
    assert [p.replace("\\", "") for chunk in chunks for p in chunk] == ids
    assert all(sum(map(len, chunk)) <= ID_CHARACTERS_PER_QUERY for chunk in chunks)
    assert list(chunks_of_text(["x" * 5_000])) == [["x" * 5_000]]
