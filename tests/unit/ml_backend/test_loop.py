"""The loop against a small Label Studio that coders, models and power cuts act on."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from label_config.errors import ConfigError, ServerRefused, ServerUnreachable
from label_config.files import write_records
from label_config.record import EMR, Coding
from label_config.suggestion import Suggestion, SuggestionSet
from ml_backend import migrate, steps
from ml_backend.dashboard import history
from ml_backend.incremental import PullMark
from ml_backend.label_studio import Pulled
from ml_backend.loop import Loop, LoopConfig, shown_version
from ml_backend.registry import Registry
from ml_backend.workspace import ProjectConfig, Workspace

CODES = ("I10", "E11", "J18")


class SmallServer:
    """Label Studio as the loop sees it: tasks by `emr_id`, and what coders decided."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict] = {}
        self.coded: dict[str, Coding] = {}
        self.away = False

    def push(self, project_id: int, tasks: list[dict], **_: object) -> int:
        self._answer()
        new = [task for task in tasks if task["data"]["emr_id"] not in self.tasks]
        self.tasks |= {task["data"]["emr_id"]: task for task in new}
        return len(new)

    def waiting(self, project_id: int) -> dict[str, dict]:
        self._answer()
        return {i: task for i, task in self.tasks.items() if i not in self.coded}

    def pull(self, project_id: int, mark: PullMark | None = None) -> Pulled:
        self._answer()
        return Pulled(list(self.coded.values()), [], [], PullMark(project_id, ""), None)

    def refresh_predictions(self, project_id: int, predictions: dict[str, dict]) -> int:
        for emr_id, prediction in predictions.items():
            self.tasks[emr_id]["predictions"] = [{"id": 2, **prediction}]
        return len(predictions)

    def code(self, count: int) -> None:
        """Coders agree with the diagnosis names, which say the code."""
        for emr_id in list(self.waiting(0))[:count]:
            self.coded[emr_id] = Coding(emr_id, (CODES[int(emr_id[1:]) % 2],), "clean")

    def _answer(self) -> None:
        if self.away:
            raise ServerUnreachable("nothing answers at http://x")


class SmallModel:
    def __init__(self, version: str) -> None:
        self.version = version

    def suggest(self, emrs: list[EMR]) -> list[SuggestionSet]:
        return [SuggestionSet(e.emr_id, (Suggestion("I10", 0.9),), self.version) for e in emrs]


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """40 EMRs of two codes, in turns; a third code stands nowhere."""
    config = ProjectConfig("Ward 7", CODES, quota=6, taxonomy="tree.csv", project_id=1)
    workspace = Workspace.create(tmp_path / "ward", config)
    (workspace.folder / "tree.csv").write_text("code,title\nI10,a\nE11,b\nJ18,c\n")
    emrs = [EMR(f"e{n}", {"Plan": "rest"}) for n in range(40)]
    write_records(workspace.pool_path, emrs, EMR)
    workspace.write_noisy(
        [Coding(f"e{n}", (CODES[n % 2],), "noisy", confidence=(0.95,)) for n in range(40)]
    )
    serve(workspace, "v1-a")
    monkeypatch.setattr(
        steps, "live_model", lambda w: SmallModel(Registry(w.models_folder).live().version)
    )
    return workspace


def serve(workspace: Workspace, version: str) -> None:
    registry = Registry(workspace.models_folder)
    registry.add(workspace.models_folder / version, version, {})
    registry.promote(version)


@pytest.fixture
def server() -> SmallServer:
    return SmallServer()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def start(ward: Workspace, server: SmallServer, said: list[str]) -> Callable[..., Loop]:
    """A loop as after a start of the command."""

    def build(**settings: float) -> Loop:
        config = LoopConfig(**{"batch": 5, "every": 0.01, **settings})
        return Loop(Workspace(ward.folder), server, config, say=said.append)

    return build


def test_coders_get_a_batch_and_the_next_one_when_it_is_nearly_done(
    start: Callable[..., Loop], server: SmallServer, said: list[str]
):
    loop = start(nearly_done=0.4)
    assert not loop.turn()
    assert said == [
        "0 EMRs coded, 0 of 2 reachable codes met",
        "batch b0001 is in Label Studio: 5 EMRs",
    ]
    server.code(2)
    assert not loop.turn()
    assert len(server.tasks) == 5, "three of five are left: enough to do"
    server.code(1)
    assert not loop.turn()
    assert said[2:] == [
        "2 EMRs coded (+2), 0 of 2 reachable codes met",
        "3 EMRs coded (+1), 0 of 2 reachable codes met",
        "batch b0002 is in Label Studio: 5 EMRs",
    ]


def test_a_look_that_finds_nothing_new_says_nothing(start: Callable[..., Loop], said: list[str]):
    loop = start()
    loop.turn()
    before = list(said)
    loop.turn()
    assert said == before


def test_it_ends_when_nothing_is_worth_asking_and_names_what_the_pool_lacks(
    start: Callable[..., Loop], ward: Workspace, server: SmallServer, said: list[str]
):
    loop, turns = start(), 0
    while not loop.turn():
        server.code(5)
        turns += 1
        assert turns < 20
    states = {row["code"]: row for row in steps.coverage_rows(ward)}
    assert states["I10"]["clean"] >= 6
    assert states["E11"]["clean"] >= 6
    assert len(server.coded) < 40, "no more is asked than is needed"
    assert said[-1].startswith("nothing is left worth asking: ")
    assert said[-1].endswith("2 of 2 reachable codes met; the pool cannot fill J18 (0 of 6)")
    assert history.read_history(ward)[-1].annotated == len(server.coded)


def test_it_waits_for_the_last_coders_before_it_ends(
    start: Callable[..., Loop], server: SmallServer, said: list[str]
):
    loop = start(batch=40, nearly_done=1.0)
    for _ in range(9):  # batches shrink towards the end
        loop.turn()
    asked = len(server.tasks)
    assert not loop.turn()
    assert len(server.tasks) == asked, "what coders hold is counted as coming"
    assert "nothing is left" not in said[-1]


def test_waiting_tasks_get_the_suggestions_of_a_new_model_once(
    start: Callable[..., Loop], ward: Workspace, server: SmallServer, said: list[str]
):
    loop = start()
    loop.turn()
    server.code(2)
    serve(ward, "v2-b")
    loop.turn()
    assert said[-1] == "model v2-b serves, 3 waiting EMRs refreshed"
    versions = {i: shown_version(task) for i, task in server.tasks.items()}
    assert sorted(versions.values()) == ["v1-a", "v1-a", "v2-b", "v2-b", "v2-b"]
    before = list(said)
    loop.turn()
    start().turn()
    assert [line for line in said[len(before) :] if "serves" in line] == []


def test_an_unreachable_server_is_said_once_and_nothing_is_lost(
    start: Callable[..., Loop], server: SmallServer, said: list[str]
):
    loop, stop = start(), threading.Event()
    server.away = True
    looks = []

    def come_back(timeout: float) -> bool:
        looks.append(timeout)
        server.away = len(looks) < 3
        if len(looks) == 5:
            stop.set()
        return stop.is_set()

    stop.wait = come_back  # type: ignore[method-assign]
    assert not loop.run(stop)
    assert said == [
        "nothing answers at http://x; trying again",
        "0 EMRs coded, 0 of 2 reachable codes met",
        "batch b0001 is in Label Studio: 5 EMRs",
    ]
    assert looks == [0.01] * 5


@pytest.mark.parametrize("restarted", [False, True])
def test_a_batch_that_did_not_arrive_is_sent_again(
    start: Callable[..., Loop],
    ward: Workspace,
    server: SmallServer,
    said: list[str],
    restarted: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    def cut(*_: object, **__: object) -> int:
        raise ServerUnreachable("nothing answers at http://x")

    loop = start()
    with monkeypatch.context() as patch:
        patch.setattr(server, "push", cut)
        with pytest.raises(ServerUnreachable):
            loop.turn()
    if restarted:
        loop = start()
    loop.turn()
    assert said[-1] == "batch b0001 is in Label Studio now: 5 EMRs were missing"
    assert list(server.tasks) == list(ward.batches()[0].emr_ids)
    assert len(ward.batches()) == 1


def test_a_restart_sends_nothing_twice(
    start: Callable[..., Loop], ward: Workspace, server: SmallServer
):
    start().turn()
    server.code(1)
    start().turn()
    assert (len(server.tasks), len(ward.batches())) == (5, 1)


def test_a_refusal_ends_the_loop(
    start: Callable[..., Loop], server: SmallServer, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise ServerRefused("the token has expired")

    monkeypatch.setattr(server, "pull", refuse)
    with pytest.raises(ServerRefused):
        start().run()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"batch": 0}, "batch"), ({"every": 0.0}, "every"), ({"nearly_done": 1.5}, "nearly_done")],
)
def test_settings_that_no_loop_can_use_are_refused(settings: dict, reason: str):
    with pytest.raises(ConfigError, match=reason):
        LoopConfig(**settings)


def test_what_an_export_brought_counts_beside_what_is_pulled(ward: Workspace, server: SmallServer):
    ward.write_imported([Coding("e0", ("I10",), "clean"), Coding("e1", ("E11",), "clean")])
    server.coded = {"e1": Coding("e1", ("I10",), "clean"), "e2": Coding("e2", ("I10",), "clean")}
    assert steps.pull(ward, server) == (3, [])
    assert {c.emr_id: c.codes for c in ward.read_clean()} == {
        "e0": ("I10",), "e1": ("I10",), "e2": ("I10",)
    }  # fmt: skip
    rows = {row["code"]: row["clean"] for row in steps.coverage_rows(ward)}
    assert rows == {"I10": 3, "E11": 0, "J18": 0}


def test_annotations_of_before_a_migration_arrive_in_the_new_codes(
    ward: Workspace, server: SmallServer, tmp_path: Path
):
    (tmp_path / "t.csv").write_text("old,new\nE11,J18\n")
    migrate.apply(ward, migrate.plan(ward, tmp_path / "t.csv"))
    server.coded = {"e1": Coding("e1", ("E11", "I10"), "clean")}
    steps.pull(ward, server)
    assert ward.read_clean()[0].codes == ("J18", "I10")
    assert ward.config.codes == ("I10", "J18")


def test_a_loop_that_was_started_before_a_migration_follows_it(
    ward: Workspace, server: SmallServer, start: Callable[..., Loop], tmp_path: Path
):
    loop = start()
    loop.turn()
    server.code(5)
    loop.turn()
    (tmp_path / "t.csv").write_text("old,new\nE11,J18\n")
    migrate.apply(ward, migrate.plan(ward, tmp_path / "t.csv"))
    steps.pull(loop.workspace, server)
    assert loop.workspace.config.codes == ("I10", "J18")
    assert {code for coding in ward.read_clean() for code in coding.codes} == {"I10", "J18"}


def test_an_emr_that_left_the_pool_is_passed_over_and_the_others_keep_their_reasons(
    ward: Workspace, server: SmallServer
):
    batch = ward.add_batch(["e1", "gone", "e2"], ["for E11", "for J18", "for I10"])
    steps.push(ward, server, batch, progress=print)
    told = {i: task["data"]["reason"] for i, task in server.tasks.items()}
    assert told == {"e1": "for E11", "e2": "for I10"}
