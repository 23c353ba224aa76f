import pytest

from simulator.baselines import Regression, closed_world_accuracy, keyword_f1, name_matcher
from simulator.baselines import names_found as found
from simulator.hospital import Hospital
from simulator.knowledge import load_pack


@pytest.fixture(scope="module")
def chinese():
    return load_pack("zh")


def texts(hospital, start, n):
    simulated = list(hospital.emrs(n, start))
    return [s.emr.long_text for s in simulated], [set(s.gold.codes) for s in simulated]


def test_an_english_name_counts_only_as_whole_words(pack):
    matcher = name_matcher(pack, ["I10"])
    assert found(matcher, "known hypertension.") == {"I10"}
    assert found(matcher, "prehypertension, hypertensions") == set()


def test_a_name_inside_a_longer_one_does_not_count(pack):
    stroke, pressure = "I63.9", "I10"
    matcher = name_matcher(pack, [stroke, pressure])
    title = pack.taxonomy.title(stroke).lower()
    assert found(matcher, f"{title}; hypertension") == {stroke, pressure}
    assert found(matcher, title) == {stroke}


def test_a_chinese_name_is_found_inside_running_text(chinese):
    matcher = name_matcher(chinese, chinese.codes)
    for code in chinese.codes[:20]:
        title = chinese.taxonomy.title(code).lower()
        assert code in found(matcher, f"患者既往有{title}病史多年。")


def test_an_abbreviation_in_chinese_text_still_needs_its_edges(chinese):
    names = {
        text.lower(): code
        for code, (_, leaf) in chinese.by_code.items()
        for phrase in leaf.names
        for text in (*phrase.a, *phrase.b)
        if text.isascii() and text.isalpha()
    }
    assert names
    matcher = name_matcher(chinese, chinese.codes)
    for name, code in names.items():
        assert code in found(matcher, f"诊断为{name}后")
        assert code not in found(matcher, f"诊断为x{name}后")


def test_chinese_keywords_code_some_of_the_records(chinese):
    emrs = texts(Hospital(chinese, codes=50, seed=1), 0, 150)
    assert 0.2 < keyword_f1(*emrs, chinese, chinese.codes[:50]) < 0.95


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_regression_learns_from_either_language(language, pack, chinese):
    its = pack if language == "en" else chinese
    hospital = Hospital(its, codes=12, seed=1)
    model = Regression(hospital.codes, unit=its.wording.unit)
    model.fit(texts(hospital, 0, 300), texts(hospital, 300, 60))
    micro, macro = model.f1(texts(hospital, 360, 100))
    blind = Regression(hospital.codes).fit(
        (["nothing"] * 30, [{hospital.codes[0]}] * 15 + [set()] * 15), (["nothing"], [set()])
    )
    assert micro > 0.5 > blind.f1(texts(hospital, 360, 100))[0]
    assert 0 < macro <= 1


def test_names_of_raw_emrs_cannot_be_mapped(pack):
    from simulator.reader import Dataset

    empty = Dataset({}, [], [], [], [], [])
    assert closed_world_accuracy(empty, pack, pack.codes[:50]) is None
