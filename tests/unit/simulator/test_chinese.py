import re

import pytest

from label_config.taxonomy import Taxonomy
from simulator.hospital import Hospital
from simulator.knowledge import blemishes_of, load_pack
from simulator.phrase import Phrase, stems_of

HAN = "[㐀-鿿]"
SECTIONS = ["主诉", "现病史", "既往史", "个人史", "家族史", "专科情况", "辅助检查", "病程记录"]


@pytest.fixture(scope="module")
def chinese():
    return load_pack("zh")


@pytest.fixture(scope="module")
def ward(chinese):
    return Hospital(chinese, codes=50, seed=2)


@pytest.fixture(scope="module")
def records(ward):
    return list(ward.emrs(150))


def test_the_chinese_pack_holds_thirty_families_without_a_blemish(chinese):
    assert len(chinese.families) >= 30
    assert blemishes_of(chinese.families, chinese.taxonomy) == []


def test_its_codes_and_their_ancestors_are_those_of_icd10cm(chinese):
    icd = Taxonomy.icd10cm()
    for entry in chinese.taxonomy:
        assert icd[entry.code].parent == entry.parent
    assert all(icd.is_leaf(code) for code in chinese.codes)


def test_titles_are_chinese_and_no_two_codes_of_the_pack_share_one(chinese):
    titles = [chinese.taxonomy.title(code) for code in chinese.codes]
    assert all(re.search(HAN, title) for title in titles)
    assert len(set(titles)) == len(titles)


def test_no_vague_or_informal_name_is_the_title_of_a_code(chinese):
    titles = {chinese.taxonomy.title(code) for code in chinese.codes}
    for family in chinese.families:
        phrases = [p for leaf in family.leaves for p in leaf.names]
        phrases += [p for names in family.vague.values() for p in names]
        assert titles.isdisjoint(text for p in phrases for text in (*p.a, *p.b))


def test_every_leaf_has_a_sibling_for_wrong_names_or_stands_alone_in_icd(chinese):
    icd = Taxonomy.icd10cm()
    for code in chinese.codes:
        assert chinese.taxonomy.siblings(code) or not icd.siblings(code)


def test_an_emr_has_chinese_sections_in_their_order(records):
    for simulated in records:
        names = list(simulated.emr.sections)
        assert names == [name for name in SECTIONS if name in names]
        assert names[:3] == SECTIONS[:3]


def test_no_space_or_western_point_stands_between_chinese_characters(records):
    for simulated in records:
        for text in simulated.emr.sections.values():
            assert not re.search(f"[{HAN[1:-1]}，。、：] [{HAN[1:-1]}，。、：]", text)
            assert not re.search(f"{HAN}[,.;]{HAN}", text)


def test_sentences_end_in_one_full_stop_and_leave_no_open_slot(records):
    for simulated in records:
        for text in simulated.emr.sections.values():
            assert text.endswith("。")
            assert not re.search(r"。。|，，|、、|，。|、。|[{}<]\w", text)


def test_the_chief_complaint_is_a_complaint_with_its_duration(records):
    for simulated in records:
        complaint = simulated.emr.sections["主诉"]
        assert re.search(r"\d+(?:小时|天|日|周|个月|月|年)余?。$", complaint)
        assert len(complaint) <= 30


def test_length_is_counted_in_characters(ward):
    sizes = [len(simulated.emr.long_text) for simulated in ward.emrs(200)]
    assert sum(sizes) / len(sizes) == pytest.approx(ward.profile.words, rel=0.1)


def test_findings_of_an_examination_are_parted_by_commas(chinese):
    wide = Hospital(chinese, codes=50, seed=4)
    panels = [
        line
        for simulated in wide.emrs(60)
        for line in re.findall("血常规：[^。]*。", simulated.emr.sections.get("辅助检查", ""))
    ]
    assert panels
    assert all("、" not in line for line in panels)
    assert any("，血小板" in line for line in panels)


def test_evidence_spans_read_as_they_stand_in_the_text(records, chinese):
    for simulated in records:
        for span in simulated.gold.evidence:
            text = simulated.emr.text_of(span.section)[span.start : span.end]
            assert text and text == text.strip()
            if span.score == 1.0:
                leaf = chinese.by_code[span.code][1]
                names = [leaf.title, *(name for phrase in leaf.names for name in phrase.a)]
                assert any(name in text for name in names)


def test_nobody_denies_diabetes_that_is_coded(records):
    for simulated in records:
        if any(code.startswith(("E11", "O24")) for code in simulated.gold.codes):
            past = simulated.emr.sections["既往史"]
            assert not re.search("(?:否认|无)[^。]*糖尿病[^。]*病史", past)


def test_the_two_hospitals_share_no_long_sentence(chinese):
    frames = chinese.wording.frames
    a = {frame.parts for frames_of_key in frames["A"].values() for frame in frames_of_key}
    b = {frame.parts for frames_of_key in frames["B"].values() for frame in frames_of_key}
    assert {parts for parts in a & b if len("".join(parts)) > 12} == set()


def test_chinese_is_compared_by_pairs_of_characters():
    assert stems_of("发热伴咳嗽") == {"发热", "热伴", "伴咳", "咳嗽"}
    assert stems_of("HP感染 2次") == {"hp", "感染", "次"}
    fever, told = Phrase.parse("发热", "test"), Phrase.parse("高热、发热三天", "test")
    assert fever.denies([told])
    assert not Phrase.parse("腹泻", "test").denies([told])


def test_a_misspelt_word_is_one_that_looks_or_sounds_alike(chinese):
    slips = chinese.wording.slips
    assert slips
    assert all(word != wrong and len(word) == len(wrong) for word, wrong in slips.items())
