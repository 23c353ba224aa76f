"""The dashboard in the app: authentication, policy, stale figures; and the commands."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from flask import Flask
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from label_config.errors import ClinicocoError, ConfigError, DataError
from label_config.record import Coding
from ml_backend import sampling, table
from ml_backend.commands import coverage as commands
from ml_backend.dashboard import routes
from ml_backend.dashboard.agreement import agreement_report, read_codings
from ml_backend.dashboard.figures import count, read_figures
from ml_backend.dashboard.page import policy
from ml_backend.dashboard.routes import NOTICE, Counter, register
from ml_backend.security import Credentials, protect
from ml_backend.workspace import ProjectConfig, Workspace

CODES = ("I10", "E11.9", "J18.9")
MARKER = "patient-Jane-Roe"


def make(folder: Path, title: str, project_id: int | None) -> Workspace:
    config = ProjectConfig(title, CODES, quota=3, taxonomy="tree.csv", project_id=project_id)
    workspace = Workspace.create(folder, config)
    (folder / "tree.csv").write_text("code,title\n" + "".join(f"{c},About {c}\n" for c in CODES))
    noisy = [
        Coding(f"e{n}", (CODES[n % 2],), "noisy", confidence=(0.9,), note=MARKER) for n in range(20)
    ]
    workspace.write_noisy(noisy)
    workspace.write_clean([Coding(f"e{n}", ("I10",), "clean", note=MARKER) for n in range(2)])
    return workspace


@pytest.fixture
def ward(tmp_path: Path) -> Workspace:
    return make(tmp_path / "ward", "Ward 7", 5)


@pytest.fixture
def serve(ward: Workspace) -> Callable[..., Flask]:
    """An app with the dashboard over some workspaces, found as the real backend finds them."""

    def build(*workspaces: Workspace, password: str = "") -> Flask:
        chosen = workspaces or (ward,)

        def serving(project_id: int) -> SimpleNamespace:
            for workspace in chosen:
                if workspace.config.project_id == project_id:
                    return SimpleNamespace(workspace=workspace)
            raise ConfigError("no such project")

        app = Flask("small")
        if password:
            protect(app, Credentials("ls", password), registry=CollectorRegistry())
        servings = [SimpleNamespace(workspace=workspace) for workspace in chosen]
        register(app, SimpleNamespace(servings=servings, serving=serving))
        return app

    return build


def test_the_page_of_a_project_holds_counts_and_no_text_of_a_record(serve: Callable[..., Flask]):
    answer = serve().test_client().get("/dashboard/5")
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert answer.headers["Content-Security-Policy"] == f"{policy()}; frame-ancestors 'none'"
    assert "Ward 7" in answer.text
    assert MARKER not in answer.text


def test_one_project_is_shown_at_once_and_several_are_listed(
    serve: Callable[..., Flask], ward: Workspace, tmp_path: Path
):
    answer = serve().test_client().get("/dashboard")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/dashboard/5")
    other = make(tmp_path / "other", "Ward <8>", None)
    listed = serve(ward, other).test_client().get("/dashboard").text
    assert 'href="/dashboard/5"' in listed
    assert "Ward &lt;8&gt;" in listed


def test_the_dashboard_needs_the_password_of_the_backend(serve: Callable[..., Flask]):
    client = serve(password="secret").test_client()
    right = {"Authorization": "Basic " + base64.b64encode(b"ls:secret").decode()}
    for path in ("/dashboard", "/dashboard/5"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=right).status_code in (200, 302)
    assert client.get("/dashboard/6", headers=right).status_code == 404


def test_the_app_leaves_the_policy_of_the_page_as_it_is(serve: Callable[..., Flask]):
    app = serve(password="secret")
    right = {"Authorization": "Basic " + base64.b64encode(b"ls:secret").decode()}
    answer = app.test_client().get("/dashboard/5", headers=right)
    assert answer.headers["Content-Security-Policy"].startswith(policy())


def test_figures_follow_the_files(ward: Workspace):
    counter = Counter(ward)
    assert counter.get()[0].coverage.annotated == 2
    ward.write_clean([Coding("e0", ("I10",), "clean")])
    counted, fresh = counter.get(patience=60)
    assert (counted.coverage.annotated, fresh) == (1, True)


def test_a_slow_recount_shows_the_last_figures_and_says_so(
    ward: Workspace, serve: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
):
    client = serve().test_client()
    assert NOTICE not in client.get("/dashboard/5").text
    go_on = threading.Event()

    def slow(workspace: Workspace):
        go_on.wait(60)
        return count(workspace)

    monkeypatch.setattr(routes, "count", slow)
    monkeypatch.setattr(Counter.get, "__defaults__", (0.01,))
    ward.write_clean([])
    page = client.get("/dashboard/5").text
    assert NOTICE in page
    assert "2 of 20 EMRs annotated" in " ".join(page.split())
    go_on.set()
    monkeypatch.setattr(Counter.get, "__defaults__", (60.0,))
    page = client.get("/dashboard/5").text
    assert NOTICE not in page
    assert "0 of 20 EMRs annotated" in " ".join(page.split())


def test_what_counting_raises_reaches_the_request_and_the_next_one_tries_again(ward: Workspace):
    counter = Counter(ward)
    noisy = ward.read_noisy()
    (ward.folder / "noisy.parquet").unlink()
    with pytest.raises(DataError, match="clinicoco auto-label"):
        counter.get()
    ward.write_noisy(noisy)
    assert counter.get()[1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    monkeypatch.setattr(table.console, "width", 160)
    app = typer.Typer()
    commands.add_to(app)

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    yield call


def test_the_page_on_disk_holds_the_rows_that_the_command_prints(
    run: Callable[..., str], ward: Workspace, tmp_path: Path
):
    said = run("coverage", ward.folder, "--json", tmp_path / "table.json")
    assert "0 of 3 codes met, 2 open; the pool cannot fill J18.9" in said
    said = run(
        "coverage", ward.folder, "--html", tmp_path / "page.html", "--json", tmp_path / "page.json"
    )
    assert "0 of 3 codes met, 2 open; the pool cannot fill J18.9" in said
    assert (tmp_path / "page.json").read_text() == (tmp_path / "table.json").read_text()
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["code"] for row in rows] == ["J18.9", "E11.9", "I10"]
    assert '"J18.9"' in (tmp_path / "page.html").read_text()


def test_codes_that_are_met_can_be_left_out(
    run: Callable[..., str], ward: Workspace, tmp_path: Path
):
    ward.write_clean([Coding(f"e{n}", ("I10",), "clean") for n in range(3)])
    run("coverage", ward.folder, "--open", "--json", tmp_path / "table.json")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["code"] for row in rows] == ["J18.9", "E11.9"]


def test_the_forecast_says_the_figures_of_the_page(
    run: Callable[..., str], ward: Workspace, tmp_path: Path
):
    said = run("forecast", ward.folder, "--json", tmp_path / "forecast.json")
    assert "to go, Ward 7" in said
    found = json.loads((tmp_path / "forecast.json").read_text())
    figures = read_figures(ward)
    emrs, hours, _ = found["overall"]
    assert emrs["median"] == round(figures.coverage.emrs_to_go.median) > 0
    assert hours["median"] is None
    assert [row["code"] for row in found["codes"]] == ["E11.9", "I10"]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations in short: {by, codes, quality}."""

    def read(task: dict, annotation: dict) -> Coding:
        quality = annotation.get("quality", "clean")
        codes, coder = tuple(annotation["codes"]), annotation["by"]
        return Coding(task["id"], codes, "clean", coder=coder, quality=quality)

    monkeypatch.setattr("ml_backend.dashboard.agreement.read_annotation", read)


def test_an_audit_measures_agreement_in_an_export_and_keeps_it_for_the_page(
    run: Callable[..., str], ward: Workspace, tmp_path: Path, reads: None
):
    tasks = [
        {"id": "e0", "annotations": [{"by": "1", "codes": ["I10"]}, {"by": "2", "codes": ["I10"]}]},
        {"id": "e1", "annotations": [{"by": "1", "codes": ["I10"]}, {"by": "2", "codes": []}]},
        {"id": "e2", "annotations": [{"by": "1", "codes": ["E11.9"]}]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    said = run("audit-coverage", ward.folder, "--export", tmp_path / "export.json")
    assert "every count equals the recount" in said
    assert "agreement on 2 EMRs" in said
    agreement = read_figures(ward).agreement
    assert agreement is not None
    assert (agreement["shared"], agreement["annotations"]) == (2, 5)
    assert agreement["codes"] == [{"code": "I10", "uses": 3, "alpha": 0.0, "agreement": 0.5}]
    (dispute,) = agreement["disputes"]
    assert (dispute["emr_id"], dispute["given_by"]) == ("e1", ["1"])


def test_a_coder_who_annotated_twice_counts_once_with_the_later_one(reads: None):
    task = {
        "id": "e0",
        "annotations": [
            {"by": "1", "codes": ["I10"], "updated_at": "2026-03-02"},
            {"by": "1", "codes": ["E11.9"], "updated_at": "2026-03-01"},
            {"by": "2", "codes": ["I10"], "quality": "bad"},
            {"by": None, "codes": ["I10"]},
        ],
    }
    codings, settled = read_codings([task, {"id": "e1"}])
    assert [c.codes for c in codings] == [("I10",)]
    assert not settled


def test_a_starred_annotation_settles_an_emr_and_is_not_compared_with_two_blind_ones(reads: None):
    blind = [{"by": "1", "codes": ["I10"]}, {"by": "2", "codes": ["E11.9"]}]
    starred = {"by": "3", "codes": ["E11.9"], "ground_truth": True}
    codings, settled = read_codings([{"id": "e0", "annotations": [*blind, starred]}])
    assert settled == {"e0"}
    assert {c.coder for c in codings} == {"1", "2"}
    report = agreement_report(codings, CODES, settled=settled)
    assert (report.shared, report.disputes) == (1, ())
    assert len(agreement_report(codings, CODES).disputes) == 2


def test_skipped_and_foreign_annotations_are_left_out():
    broken = [{"was_cancelled": True}, {"result": []}]
    assert read_codings([{"id": 2, "annotations": broken}]) == ([], set())


def test_agreement_without_shared_emrs_is_not_defined():
    report = agreement_report([Coding("e0", ("I10",), "clean", coder="1")], CODES)
    assert (report.shared, report.alpha, report.codes, report.disputes) == (0, None, (), ())


def test_an_audit_with_another_count_ends_with_an_error(
    ward: Workspace, monkeypatch: pytest.MonkeyPatch
):
    true = sampling.coverage(ward)
    ward.write_clean([])
    monkeypatch.setattr(sampling, "coverage", lambda _: true)
    with pytest.raises(ClinicocoError, match="1 counts differ"):
        commands.audit_coverage(ward.folder)


def test_an_export_that_is_none_is_named(ward: Workspace, tmp_path: Path):
    (tmp_path / "export.json").write_text('{"a": 1}')
    for name in ("export.json", "nowhere.json"):
        with pytest.raises(DataError, match=name):
            commands.audit_coverage(ward.folder, export=tmp_path / name)


def test_the_loop_command_looks_once_or_until_interrupted(
    run: Callable[..., str], ward: Workspace, monkeypatch: pytest.MonkeyPatch
):
    looked: list[str] = []

    class SmallLoop:
        def __init__(self, workspace: Workspace, client: object, config: object, *, say) -> None:
            self.say = say

        def turn(self) -> None:
            looked.append("once")
            self.say("2 EMRs [coded]")

        def run(self, stop: object) -> None:
            looked.append("until")
            raise KeyboardInterrupt

    monkeypatch.setattr("ml_backend.loop.Loop", SmallLoop)
    monkeypatch.setattr(commands, "client", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run("run", ward.folder, "--once").split(" ", 1)[1] == "2 EMRs [coded]\n"
    assert "stopped; nothing is lost" in run("run", ward.folder)
    assert looked == ["once", "until"]
