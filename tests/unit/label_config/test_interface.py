"""The labelling XML: well formed, complete, and its style sheet in step with the tasks."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from label_config.cards import MOST_CANDIDATES
from label_config.errors import ConfigError
from label_config.interface import CONTROLS, DEFAULT_SHOWN, INTERFACES, THRESHOLDS, build_interface
from label_config.task import OBJECT, build_task

URL = "http://127.0.0.1:9090/taxonomy.json?set=a&b=2"


@pytest.fixture(scope="module")
def tree() -> ElementTree.Element:
    return ElementTree.fromstring(build_interface(taxonomy_url=URL))


def controls(tree: ElementTree.Element) -> list[ElementTree.Element]:
    return [tag for tag in tree.iter() if tag.get("toName") and tag.tag != "Filter"]


@pytest.mark.parametrize("name", INTERFACES)
def test_every_interface_holds_every_control_once_with_its_type_of_result(name: str) -> None:
    tree = ElementTree.fromstring(build_interface(name, taxonomy_url=URL))
    found = controls(tree)
    assert {tag.get("name"): tag.tag.lower() for tag in found} == CONTROLS
    assert len(found) == len(CONTROLS)


@pytest.mark.parametrize("name", INTERFACES)
def test_every_control_refers_to_the_one_record(name: str) -> None:
    tree = ElementTree.fromstring(build_interface(name, taxonomy_url=URL))
    assert [tag.get("name") for tag in tree.iter("HyperText")] == [OBJECT]
    assert {tag.get("toName") for tag in controls(tree)} == {OBJECT}


@pytest.mark.parametrize("name", INTERFACES)
def test_no_name_is_given_twice_anywhere_in_the_text(name: str) -> None:
    names = re.findall(r'\bname="([^"]*)"', build_interface(name, taxonomy_url=URL))
    assert len(names) == len(set(names)), "Label Studio refuses the interface"


def test_an_interface_that_nobody_wrote_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="coding, choices, evidence, got 'fancy'"):
        build_interface("fancy", taxonomy_url=URL)


@pytest.mark.parametrize("name", ["choices", "evidence"])
def test_the_small_interfaces_work_without_the_code_tree(name: str) -> None:
    assert "taxonomy.json" not in build_interface(name, taxonomy_url=URL)


@pytest.mark.parametrize("name", INTERFACES)
def test_no_key_is_given_twice_by_interface_and_task(
    name: str, stroke_emr, stroke_suggestions, small_taxonomy
) -> None:
    tree = ElementTree.fromstring(build_interface(name, taxonomy_url=URL))
    task = build_task(stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1)
    rows = [
        row for key in ("candidates", "labels", "principal_options") for row in task["data"][key]
    ]
    keys = [tag.get("hotkey") for tag in tree.iter()] + [row.get("hotkey") for row in rows]
    given = [key for key in keys if key]
    assert len(given) == len(set(given))
    assert "u" not in given, "Label Studio unselects the region with it"


def test_questions_and_highlights_ask_the_model_without_a_switch(tree: ElementTree.Element) -> None:
    asking = {tag.get("name") for tag in tree.iter() if tag.get("smartOnly") == "true"}
    assert asking == {"ask", "evidence"}
    [field] = [tag for tag in tree.iter("TextArea") if tag.get("name") == "ask"]
    assert field.get("rows") == "1", "Enter asks only in a field of one row"


def test_advice_follows_the_ticks_of_every_row(tree: ElementTree.Element) -> None:
    style = "".join(tag.text or "" for tag in tree.iter("Style"))
    for place in (1, MOST_CANDIDATES):
        for sign in "ynp":
            assert f".w.{sign}{place}" in style


def test_the_code_tree_comes_from_the_given_address(tree: ElementTree.Element) -> None:
    assert [tag.get("apiUrl") for tag in tree.iter("Taxonomy")] == [URL, URL]
    assert {tag.get("leafsOnly") for tag in tree.iter("Taxonomy")} == {"true"}
    inner = ElementTree.fromstring(build_interface(taxonomy_url=URL, leaves_only=False))
    assert {tag.get("leafsOnly") for tag in inner.iter("Taxonomy")} == {"false"}


@pytest.mark.parametrize("url", ["/taxonomy.json", "", "javascript:alert(1)", "ftp://host/x"])
def test_an_address_that_a_browser_could_not_fetch_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="absolute"):
        build_interface(taxonomy_url=url)


def test_every_field_that_the_tags_ask_for_is_in_a_task(
    tree: ElementTree.Element, stroke_emr, stroke_suggestions, small_taxonomy
) -> None:
    asked = {tag.get("value")[1:] for tag in tree.iter() if tag.get("value", "").startswith("$")}
    task = build_task(stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1)
    assert asked
    assert asked <= set(task["data"])


def test_the_style_sheet_is_plain_css_without_markup_or_comments(
    tree: ElementTree.Element,
) -> None:
    style = "".join(tag.text or "" for tag in tree.iter("Style"))
    assert "/*" not in style and "<" not in style and "{{" not in style
    assert style.count("{") == style.count("}")


def test_each_threshold_hides_each_candidate_row_and_its_evidence(
    tree: ElementTree.Element,
) -> None:
    style = "".join(tag.text or "" for tag in tree.iter("Style"))
    [radio] = [tag for tag in tree.iter("Choices") if tag.get("name") == "show"]
    values = [choice.get("value") for choice in radio]
    assert values == [*THRESHOLDS, "all"]
    assert [c.get("value") for c in radio if c.get("selected") == "true"] == [DEFAULT_SHOWN]
    for value in THRESHOLDS:
        for place in (1, MOST_CANDIDATES):
            assert re.search(rf"name='{value}'.*nth-child\({place}\).*_k{place}_'", style)
    assert not re.search(r":has\([^)]*:has\(", style), "browsers drop a :has() inside another"
