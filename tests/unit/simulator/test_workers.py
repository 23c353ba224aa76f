import itertools
import time

import psutil
import pytest

from label_config.errors import ConfigError
from simulator.workers import WAITING_PER_WORKER, in_order

WORKER = """
import time
import pyarrow as pa
from label_config.errors import ConfigError
from simulator.workers import answer

def start(settings):
    if "refuse" in settings:
        raise ConfigError(settings["refuse"])

    def make(number):
        time.sleep(settings["seconds"][number % 3])
        return {"square": pa.table({"n": [number**2]}), "text": pa.table({"t": ["x" * number]})}

    return make

answer(start)
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    (tmp_path / "small_worker.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)

    def in_small_workers(questions, processes=2, **settings):
        settings = {"seconds": [0.02, 0.0, 0.01], **settings}
        return in_order("small_worker", settings, questions, ("square", "text"), processes)

    return in_small_workers


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_answers_come_in_the_order_asked_whoever_is_quicker(ask, processes):
    answers = list(ask(range(40), processes))
    assert [tables["square"]["n"][0].as_py() for tables in answers] == [n**2 for n in range(40)]
    assert [len(tables["text"]["t"][0].as_py()) for tables in answers] == list(range(40))


def test_no_more_is_asked_than_may_wait(ask):
    asked = []
    answers = ask(asked.append(n) or n for n in range(100))
    next(answers)
    time.sleep(0.3)
    assert len(asked) == 2 * WAITING_PER_WORKER
    answers.close()


def test_workers_end_when_nobody_wants_their_answers_any_more(ask):
    before = set(psutil.Process().children())
    answers = ask(itertools.count())
    next(answers)
    assert len(set(psutil.Process().children()) - before) == 2
    answers.close()
    assert not set(psutil.Process().children()) - before


def test_what_a_worker_refuses_is_told_in_its_own_words(ask):
    with pytest.raises(ConfigError, match="needed this, got that"):
        next(ask(range(9), refuse="needed this, got that"))


def test_a_worker_that_dies_is_not_waited_for(ask, capfd):
    with pytest.raises(RuntimeError, match="ended early"):
        list(ask(range(9), seconds=[0.0]))
    assert "IndexError" in capfd.readouterr().err
