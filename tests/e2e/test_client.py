"""Set-up, push, pull and refresh against the real server."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from label_config.errors import ServerRefused, ServerUnreachable
from label_config.record import EMR
from label_config.suggestion import SuggestionSet
from label_config.task import build_prediction, build_result, build_task, candidate_codes
from label_config.taxonomy import Taxonomy
from ml_backend.disputes import TAB, push_back
from ml_backend.label_studio import LabelStudioClient
from ml_backend.local_server import LocalLabelStudio
from ml_backend.workspace import ProjectConfig, Workspace

if TYPE_CHECKING:
    from conftest import Backend

pytestmark = pytest.mark.e2e


def test_set_up_twice_makes_one_project_that_follows_its_backend(
    client: LabelStudioClient, backend: Backend
) -> None:
    title = f"set-up {uuid4().hex[:8]}"
    credentials = {"backend_user": "ls", "backend_password": "geheim"}
    told: list[int] = []
    first = client.set_up(title, backend_url=backend.url, on_project=told.append, **credentials)
    moved = backend.url.replace("127.0.0.1", "localhost")
    again = client.set_up(title, backend_url=moved, maximum_annotations=2, **credentials)

    assert first == again
    assert told == [first.id]
    assert client.served_version(first.id) == "v1"
    sdk = client._sdk
    [hook] = sdk.webhooks.list(project=first.id)
    assert hook.url == f"{moved}/webhook"
    assert hook.headers == {"Authorization": "Basic " + base64.b64encode(b"ls:geheim").decode()}
    assert hook.send_for_all_actions is False
    [connected] = sdk.ml.list(project=first.id)
    assert connected.url == moved
    project = sdk.projects.get(first.id)
    assert project.sampling == "Sequential sampling"
    assert project.maximum_annotations == 2
    assert len(sdk.views.list(project=first.id)) == 1
    client.start_training(first.id)
    assert backend.bodies("/webhook")[-1]["action"] == "START_TRAINING"


def test_events_reach_the_backend_with_its_credentials(
    client: LabelStudioClient,
    backend: Backend,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
) -> None:
    info = client.set_up(
        f"events {uuid4().hex[:8]}",
        backend_url=backend.url,
        backend_user="ls",
        backend_password="x",
    )
    client.push(info.id, [build_task(make_emr("EMR-1"), None, taxonomy, batch="b1", order=1)])
    [task] = client.waiting(info.id).values()
    backend.requests.clear()
    client.annotate(task["id"], {"result": [], "lead_time": 1.0, "was_cancelled": False})
    events = [
        (h.get("Authorization"), b["action"]) for _, p, h, b in backend.requests if p == "/webhook"
    ]
    assert events == [("Basic " + base64.b64encode(b"ls:x").decode(), "ANNOTATION_CREATED")]


def test_pushing_again_adds_only_what_is_missing_and_keeps_the_order(
    client: LabelStudioClient,
    project: int,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
) -> None:
    ids = ["EMR-3", "EMR-1.(*)", 'EMR-2 "x"', "记录-4"]
    emrs = [make_emr(emr_id) for emr_id in ids]
    tasks = [build_task(e, suggest(e), taxonomy, batch="b", order=i) for i, e in enumerate(emrs)]
    assert client.push(project, tasks[:3]) == 3
    assert client.push(project, [*tasks[:3], tasks[3], tasks[3]]) == 1
    assert client.push(project, tasks) == 0
    assert [task["meta"]["emr_id"] for task in client.tasks(project)] == ids
    assert list(client.waiting(project)) == ids


def test_a_push_whose_answer_is_lost_arrives_once(
    client: LabelStudioClient,
    project: int,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = client._sdk.projects.import_tasks
    lost = []

    def lose_the_first_answer(*args: Any, **kwargs: Any) -> Any:
        answer = send(*args, **kwargs)
        if not lost:
            lost.append(answer)
            raise httpx.ReadTimeout("lost")
        return answer

    monkeypatch.setattr(client._sdk.projects, "import_tasks", lose_the_first_answer)
    tasks = [build_task(make_emr(f"EMR-{i}"), None, taxonomy, batch="b", order=i) for i in range(3)]
    assert client.push(project, tasks) == 3
    assert lost
    assert len(list(client.tasks(project))) == 3


def test_what_simulated_coders_submit_is_pulled_and_refreshing_leaves_it_alone(
    client: LabelStudioClient,
    project: int,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
) -> None:
    emrs = {i: make_emr(i) for i in ("EMR-1", "EMR-2", "EMR-3")}
    tasks = [build_task(e, suggest(e), taxonomy, batch="b", order=1) for e in emrs.values()]
    client.push(project, tasks)
    waiting = client.waiting(project)
    evidence = suggest(emrs["EMR-1"]).suggestions[0].evidence
    result = build_result(
        emrs["EMR-1"],
        ["E11.9", "I63.9"],
        evidence,
        candidates=candidate_codes(waiting["EMR-1"]),
        principal="E11.9",
        quality="unsure",
        note="Insulin?",
        taxonomy=taxonomy,
    )
    annotation = {"result": result, "lead_time": 42.5, "was_cancelled": False}
    for _ in range(2):  # a coder who submits twice: the later one counts
        client.annotate(waiting["EMR-1"]["id"], annotation)
    client.annotate(waiting["EMR-2"]["id"], {"result": [], "lead_time": 3.0, "was_cancelled": True})
    assert list(client.waiting(project)) == ["EMR-3"]

    predictions = {i: build_prediction(e, suggest(e, "v2"), taxonomy) for i, e in emrs.items()}
    assert client.refresh_predictions(project, predictions) == 1
    versions = {t["meta"]["emr_id"]: len(t["predictions"]) for t in client.tasks(project)}
    assert versions == {"EMR-1": 1, "EMR-2": 1, "EMR-3": 2}

    first, problems, skipped, *_ = client.pull(project)
    assert first == client.pull(project)[0]
    [coding] = first
    assert coding.codes == ("E11.9", "I63.9")
    assert coding.principal == "E11.9"
    assert set(coding.evidence) == set(evidence)
    assert (coding.quality, coding.note, coding.seconds) == ("unsure", "Insulin?", 42.5)
    assert coding.suggested == ("I63.9", "I10")
    reasons = sorted(problem.reason for problem in problems)
    assert reasons[0].startswith("EMR EMR-1 has a later or starred one")
    assert reasons[1] == "skipped by the coder"
    assert skipped == ["EMR-2"]


def test_a_pull_reads_only_what_changed_and_notices_what_went_without_a_trace(
    client: LabelStudioClient,
    project: int,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
) -> None:
    emrs = {i: make_emr(i) for i in ("EMR-1", "EMR-2", "EMR-3", "EMR-4")}
    client.push(
        project,
        [build_task(e, suggest(e), taxonomy, batch="b", order=1) for e in emrs.values()],
    )
    waiting = client.waiting(project)
    answer = {"result": _answer(emrs["EMR-1"], waiting["EMR-1"], ["I63.9"], taxonomy)}
    made = {
        i: client.annotate(waiting[i]["id"], answer | {"lead_time": 5.0, "was_cancelled": False})
        for i in ("EMR-1", "EMR-2")
    }
    first = client.pull(project)
    assert first.read is None
    assert {c.emr_id for c in first.codings} == {"EMR-1", "EMR-2"}

    client.annotate(waiting["EMR-3"]["id"], {"result": [], "lead_time": 1.0, "was_cancelled": True})
    changed = client.pull(project, first.mark)
    assert changed.read == {"EMR-3"}
    assert (changed.codings, changed.skipped) == ([], ["EMR-3"])

    client._sdk.annotations.delete(made["EMR-2"])
    taken_back = client.pull(project, changed.mark)
    assert (taken_back.read, taken_back.codings) == ({"EMR-2"}, [])

    client._sdk.tasks.delete(str(waiting["EMR-1"]["id"]))
    everything = client.pull(project, taken_back.mark)
    assert everything.read is None
    assert (everything.codings, everything.skipped) == ([], ["EMR-3"])


def test_a_dispute_goes_back_as_a_tab_and_a_star_settles_it(
    client: LabelStudioClient,
    project: int,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
    tmp_path: Path,
) -> None:
    workspace = Workspace.create(
        tmp_path / "ward", ProjectConfig("Ward", ("I63.9", "E11.9", "I10"), project_id=project)
    )
    emr = make_emr("EMR-1")
    other = make_emr("EMR-2")
    client.push(
        project, [build_task(e, suggest(e), taxonomy, batch="b", order=1) for e in (emr, other)]
    )
    task = client.waiting(project)["EMR-1"]
    colleague = client._sdk.users.create(
        username=f"c{uuid4().hex[:6]}", email=f"{uuid4().hex[:8]}@ward.example"
    )
    ids = [
        client.annotate(
            task["id"],
            {
                "result": _answer(emr, task, codes, taxonomy),
                "lead_time": 5.0,
                "was_cancelled": False,
                **more,
            },
        )
        for codes, more in ((["I63.9"], {}), (["I63.9", "E11.9"], {"completed_by": colleague.id}))
    ]
    report = push_back(workspace, client)
    assert [(d.emr_id, d.code) for d in report.disputes] == [("EMR-1", "E11.9")]
    [tab] = [v for v in client._sdk.views.list(project=project) if v.data["title"] == TAB]
    listed = client._sdk.tasks.list(project=project, view=tab.id, fields="task_only").items
    assert [found.id for found in listed or ()] == [task["id"]]

    client._sdk.annotations.update(ids[0], ground_truth=True)
    assert push_back(workspace, client).disputes == ()
    assert TAB not in [v.data["title"] for v in client._sdk.views.list(project=project)]
    [coding] = client.pull(project).codings
    assert coding.codes == ("I63.9",)


def _answer(emr: EMR, task: dict[str, Any], codes: list[str], taxonomy: Taxonomy) -> list[Any]:
    return build_result(
        emr,
        codes,
        (),
        candidates=candidate_codes(task),
        principal=codes[0],
        quality="clean",
        note="",
        taxonomy=taxonomy,
    )


def test_a_refused_token_and_a_dead_address_each_say_what_to_change(
    label_studio: LocalLabelStudio, client: LabelStudioClient
) -> None:
    stranger = LabelStudioClient(label_studio.url, "0" * 40)
    with pytest.raises(ServerRefused, match="refused the token"):
        stranger.set_up("nobody", taxonomy_url="http://127.0.0.1/taxonomy.json")
    with pytest.raises(ServerUnreachable, match=r"nothing answers at http://127\.0\.0\.1:9"):
        LabelStudioClient("http://127.0.0.1:9", "0" * 40).pull(1)
    with pytest.raises(ServerRefused, match="a host name without a dot"):
        client.set_up("dotless", backend_url="http://ml-backend:9090")
    with pytest.raises(ServerRefused, match="cannot reach the backend"):
        client.set_up("closed", backend_url="http://127.0.0.1:9")
    with pytest.raises(ServerRefused, match="was the project deleted"):
        client.pull(999_999)
