from datetime import UTC, datetime
from pathlib import Path

from ml_backend.notes import PushNote


def test_an_open_note_tells_another_process_what_was_being_sent_and_when(tmp_path: Path):
    PushNote(tmp_path).open(["e1", "记录-2"])
    note = PushNote(tmp_path)
    assert note.is_open
    assert note.emr_ids == ["e1", "记录-2"]
    assert 0 <= (datetime.now(UTC) - note.sent_at).total_seconds() < 60


def test_a_closed_note_leaves_nothing(tmp_path: Path):
    note = PushNote(tmp_path)
    note.open(["e1"])
    note.close()
    note.close()
    assert not PushNote(tmp_path).is_open
