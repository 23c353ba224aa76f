from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from label_config.record import EMR, Coding, EvidenceSpan
from ml_backend.feedback import FILE, Feedback, Journal


def decided(number: int, code: str = "I10") -> Feedback:
    span = EvidenceSpan(code, "Plan", 0, 4, 0.5)
    return Feedback(f"{number}:aa", Coding(f"e{number}", (code,), "clean", evidence=(span,)))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def test_what_one_process_writes_another_reads_once(tmp_path: Path, journal: Journal):
    journal.append([decided(1), decided(2)])
    other = Journal(tmp_path)
    assert other.news() == [decided(1), decided(2)]
    journal.append([decided(3)])
    assert other.news() == [decided(3)]
    assert other.news() == []


def test_the_same_annotation_told_twice_is_written_once_across_restarts(
    tmp_path: Path, journal: Journal
):
    assert journal.append([decided(1), decided(1)]) == 1
    assert journal.append([decided(1)]) == 0
    assert Journal(tmp_path).append([decided(1), decided(2)]) == 1
    assert [entry.key for entry in Journal(tmp_path).news()] == ["1:aa", "2:aa"]


def test_a_record_that_the_pool_does_not_hold_travels_with_its_decision(journal: Journal):
    entry = Feedback("1:aa", Coding("e1", ("I10",), "clean"), EMR("e1", {"Plan": "rest"}))
    journal.append([entry])
    assert journal.news() == [entry]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_cut_short_by_a_crash_costs_that_line_alone(tmp_path: Path, cut: int):
    Journal(tmp_path).append([decided(1), decided(2)])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    after = Journal(tmp_path)
    assert after.append([decided(2), decided(3)]) == 2
    assert [entry.key for entry in Journal(tmp_path).news()] == ["1:aa", "2:aa", "3:aa"]


def test_many_threads_and_journals_write_each_key_once(tmp_path: Path):
    journals = [Journal(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda n: journals[n % 4].append([decided(n // 4)]), range(40)))
    assert sum(counts) == 10
    assert len(Journal(tmp_path).news()) == 10
