import json
from dataclasses import asdict
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from ml_backend.incremental import OVERLAP, PullMark


def row(task_id: int, at: str, total: int = 0, cancelled: int = 0) -> dict[str, object]:
    return {
        "id": task_id,
        "updated_at": at,
        "total_annotations": total,
        "cancelled_annotations": cancelled,
    }


def test_the_mark_moves_to_the_latest_change_and_never_back():
    mark = PullMark(1, "").after([row(1, "2026-03-01T10:00:00Z"), row(2, "2026-03-02T09:00:00Z")])
    assert mark.updated_at == "2026-03-02T09:00:00Z"
    assert mark.after([row(3, "2026-03-01T12:00:00Z")]).updated_at == mark.updated_at


def test_the_next_pull_begins_a_little_before_the_latest_change():
    mark = PullMark(1, "2026-03-02T09:00:00+00:00")
    gap = datetime.fromisoformat(mark.updated_at) - datetime.fromisoformat(mark.since)
    assert gap == OVERLAP
    assert PullMark(1, "").since == ""


def test_times_of_two_zones_are_compared_as_moments():
    mark = PullMark(1, "2026-03-02T09:00:00+00:00")
    earlier = row(1, "2026-03-02T09:30:00+01:00")
    assert mark.after([earlier]).updated_at == mark.updated_at


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2))), max_size=4
    )
)
def test_counts_after_any_history_are_those_of_each_task_s_last_row(pulls):
    mark, last = PullMark(1, ""), {}
    for pull in pulls:
        rows = [row(i, "2026-03-01T10:00:00Z", total, skips) for i, total, skips in pull]
        mark = mark.after(rows)
        last |= {i: total + skips for i, total, skips in pull}
    assert mark.total == sum(last.values())
    assert all(count for count, _ in mark.tasks.values())


def test_what_was_read_is_read_again_only_when_it_has_changed():
    rows = [row(1, "2026-03-01T10:00:00Z", 1), row(2, "2026-03-01T10:00:00Z"), row(3, "x", 1)]
    mark = PullMark(1, "").after(rows[:2])
    assert mark.unread(rows) == [rows[2]]
    edited, emptied = row(1, "2026-03-01T10:00:01Z", 1), row(1, "2026-03-01T10:00:01Z")
    assert mark.unread([edited]) == [edited]
    assert mark.unread([emptied]) == [emptied]
    assert PullMark(**json.loads(json.dumps(asdict(mark)))).unread(rows) == [rows[2]]
