import subprocess
import sys
from pathlib import Path

from ml_backend.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from ml_backend.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_that_another_process_holds_is_refused_and_free_once_that_is_killed(tmp_path: Path):
    path = tmp_path / "a" / ".lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with locked(path, wait=False) as is_ours:
        assert not is_ours
    process.kill()
    process.wait()
    with locked(path, wait=False) as is_ours:
        assert is_ours


def test_a_lock_is_free_after_an_error_in_its_block(tmp_path: Path):
    try:
        with locked(tmp_path / ".lock"):
            raise ValueError
    except ValueError:
        pass
    with locked(tmp_path / ".lock", wait=False) as is_ours:
        assert is_ours
