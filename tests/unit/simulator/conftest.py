"""The English pack, loaded once, a small hospital over it, and an experiment that is stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from label_config.measured import Measured
from simulator.experiments.kept import NOTHING, KeptInFile
from simulator.hospital import Hospital
from simulator.knowledge import Pack, load_pack


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack("en")


@pytest.fixture(scope="session")
def hospital(pack: Pack) -> Hospital:
    return Hospital(pack, codes=50, seed=3)


class Counting(KeptInFile):
    """Remembers the key of every row that it did not have."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, {"experiment": "small"})
        self.made: list[Any] = []

    def row(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self:
            self.made.append(key)
        return super().row(key, make)


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.fixture
def begun_again(tmp_path: Path) -> Callable[..., list[Any]]:
    """Stops a run after some steps, begins it again, and holds it against a run in one go.

    Returns the keys of the rows that the second run made; a third one makes none.
    """

    def check(run: Callable[..., Measured], after: int = 1, noise: tuple[str, ...] = ()) -> Any:
        def stop(done: int, total: int) -> None:
            if done == after:
                raise Stopped

        def said(measured: Measured) -> str:
            rows = [{k: v for k, v in row.items() if k not in noise} for row in measured.rows]
            return repr((rows, measured.seeds, measured.data_hash, measured.findings))

        def goals(measured: Measured) -> str:
            return repr(measured.goals)

        file, steps = tmp_path / "kept.jsonl", list[tuple[int, int]]()
        whole = run(kept=NOTHING)
        with pytest.raises(Stopped):
            run(kept=Counting(file), progress=stop)
        second, third = Counting(file), None
        again = run(kept=second, progress=lambda *at: steps.append(at))
        third = Counting(file)
        last = run(kept=third)
        assert said(again) == said(last) == said(whole)
        assert goals(again) == goals(last) == goals(whole)
        assert second.made and not third.made
        assert steps == [(i, steps[-1][1]) for i in range(1, steps[-1][1] + 1)]
        return second.made

    return check
