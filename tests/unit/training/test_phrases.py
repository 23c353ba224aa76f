from pathlib import Path

import pytest

from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.phrases import PhraseTable, read

CODES = ["E11.9", "I10", "J18.9", "K35.8"]


def emr(text: str, emr_id: str = "e1") -> EMR:
    return EMR(emr_id, {"Illness": text})


def coded(record: EMR, code: str, words: str | None = None) -> Coding:
    spans: tuple[EvidenceSpan, ...] = ()
    if words is not None:
        start = record.sections["Illness"].index(words)
        spans = (EvidenceSpan(code, "Illness", start, start + len(words)),)
    return Coding(record.emr_id, (code,), "clean", evidence=spans)


def fit(taxonomy: Taxonomy, *pairs: tuple[EMR, Coding]) -> PhraseTable:
    readings = read(record for record, _ in pairs)
    return PhraseTable.fit(readings, [coding for _, coding in pairs], taxonomy, CODES)


def entry(table: PhraseTable, key: str, code: str) -> int:
    (found,) = (
        e for e in table.entries[table.keys.index(key)] if table.codes[table.code[e]] == code
    )
    return found


def test_a_highlight_is_found_again_in_another_number(four_codes: Taxonomy) -> None:
    first = emr("Marked crackles today.")
    table = fit(four_codes, (first, coded(first, "J18.9", "crackles")))
    (reading,) = read([emr("a crackle on the left", "e2")])
    assert [at.wording for at in table.find(reading)] == ["crackle"]


def test_only_the_highlighted_place_stands_for_the_code(four_codes: Taxonomy) -> None:
    record = emr("crackles on the right; no crackles on the left")
    table = fit(four_codes, (record, coded(record, "J18.9", "crackles")))
    at = entry(table, "crackl", "J18.9")
    assert (table.seen[at], table.accepted[at], table.marked[at]) == (1, 0.5, 1)


def test_without_a_highlight_every_place_of_a_given_code_stands_for_it(
    four_codes: Taxonomy,
) -> None:
    record = emr("pneumonia, again pneumonia")
    table = fit(four_codes, (record, coded(record, "J18.9")))
    at = entry(table, "pneumonia".removesuffix("a"), "J18.9")
    assert (table.seen[at], table.accepted[at], table.marked[at]) == (1, 1, 0)
    assert table.named[at]


def test_wordings_are_counted_beside_their_stem(four_codes: Taxonomy) -> None:
    one, two = emr("crackles"), emr("a crackle", "e2")
    table = fit(four_codes, (one, coded(one, "J18.9", "crackles")), (two, coded(two, "I10")))
    at = entry(table, "crackl", "J18.9")
    assert table.wordings[at, "crackles"] == [1, 1]
    assert table.wordings[at, "crackle"] == [1, 0]


def test_learning_an_emr_again_replaces_what_it_said(four_codes: Taxonomy) -> None:
    record = emr("pneumonia")
    table = fit(four_codes, (record, coded(record, "J18.9")))
    before = list(table.accepted)
    (reading,) = read([record])
    table.learn(reading, Coding("e1", (), "clean"))
    assert table.accepted != before
    table.learn(reading, coded(record, "J18.9"))
    assert table.accepted == pytest.approx(before)


def test_a_saved_table_counts_the_same(
    four_codes: Taxonomy, ward: tuple[list[EMR], list[Coding]], tmp_path: Path
) -> None:
    table = PhraseTable.fit(read(ward[0]), ward[1], four_codes, CODES)
    table.save(tmp_path)
    loaded = PhraseTable.load(tmp_path, CODES)
    assert (loaded.keys, loaded.code, loaded.named) == (table.keys, table.code, table.named)
    assert loaded.accepted == pytest.approx(table.accepted)
    assert dict(loaded.wordings) == dict(table.wordings)
