import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from label_config.files import to_dict
from label_config.record import EMR
from ml_backend import cli
from ml_backend.commands.experiment import BENCHMARKS, EXPERIMENTS
from ml_backend.label_studio import ProjectInfo
from ml_backend.processes import free_port
from ml_backend.registry import ModelVersion
from ml_backend.retrain import Trained
from ml_backend.settings import settings
from ml_backend.workspace import ProjectConfig, Workspace

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


def commands() -> list[str]:
    group = typer.main.get_command(cli.app)
    names = group.list_commands(None)  # type: ignore[attr-defined]
    parts = ["models list", "models promote", "jobs list", "jobs cancel"]
    return [name for name in names if name not in ("models", "jobs")] + parts


@pytest.fixture
def ward(tmp_path: Path, run: Run) -> Path:
    codes = tmp_path / "codes.txt"
    codes.write_text("I10\ne119\nJ18.9\n")
    assert run("init", tmp_path / "ward", "--codes", codes, "--title", "Ward 7")[0] == 0
    return tmp_path / "ward"


@pytest.mark.parametrize("command", commands())
def test_every_command_explains_itself(run: Run, command: str):
    code, said = run(*command.split(), "--help")
    assert code == 0
    assert f"Usage: clinicoco {command}" in said
    assert len(said.splitlines()[3].strip()) > 20


def test_init_takes_codes_in_any_spelling(ward: Path):
    assert Workspace(ward).config.codes == ("I10", "E11.9", "J18.9")


def test_init_again_changes_nothing_and_says_what_is_another(run: Run, ward: Path, tmp_path: Path):
    codes, before = tmp_path / "codes.txt", (ward / "project.json").read_bytes()
    again = ("init", ward, "--codes", codes, "--title", "Ward 7")
    assert run(*again)[0] == 0
    code, said = run(*again, "--quota", "9")
    assert code == 1 and "with quota 5, got 9: change it in project.json" in said
    codes.write_text("I10\n")
    code, said = run(*again)
    assert code == 1 and "with another code set: move it by `clinicoco migrate`" in said
    assert (ward / "project.json").read_bytes() == before


def test_init_again_keeps_the_project_s_own_code_tree(run: Run, tmp_path: Path):
    codes, tree = tmp_path / "own.txt", tmp_path / "tree.csv"
    codes.write_text("A1\n")
    tree.write_text("code,title,parent,synonyms\nA,Fevers,,\nA1,Fever,A,heat;pyrexia\n")
    again = ("init", tmp_path / "own", "--codes", codes, "--taxonomy", tree)
    assert run(*again)[0] == 0 and run(*again)[0] == 0
    kept = (tmp_path / "own" / "taxonomy.csv").read_bytes()
    tree.write_text("code,title\nA1,Another fever\n")
    code, said = run(*again)
    assert code == 1 and "another code set" in said
    assert (tmp_path / "own" / "taxonomy.csv").read_bytes() == kept


def test_a_second_import_adds_to_the_pool_but_leaves_coders_their_text(
    run: Run, ward: Path, tmp_path: Path
):
    def take(name: str, **texts: str) -> str:
        lines = [json.dumps(to_dict(EMR(i, {"Plan": text}))) for i, text in texts.items()]
        (tmp_path / name).write_text("\n".join(lines))
        code, said = run("import", ward, tmp_path / name)
        assert code == 0
        return said

    take("monday.jsonl", e1="rest", e2="walk", e3="eat")
    opened = Workspace(ward)
    opened.add_batch(["e1"], ["1st of 5 for I10"])
    said = take("tuesday.jsonl", e1="rest", e2="run", e4="sleep")
    assert "imported 3 EMRs, 0 left out" in said
    said = take("wednesday.jsonl", e1="stand", e4="sleep")
    assert "imported 1 EMRs, 1 left out" in said and "EMR e1" in said and "another text" in said
    assert {emr.emr_id: emr.sections["Plan"] for emr in opened.read_pool()} == {
        "e1": "rest", "e2": "run", "e3": "eat", "e4": "sleep"
    }  # fmt: skip


def test_997_of_1000_records_are_imported_and_3_are_named_with_line_and_reason(
    run: Run, ward: Path, tmp_path: Path
):
    lines = [json.dumps(to_dict(EMR(f"e{i}", {"Plan": f"rest {i}"}))) for i in range(1_000)]
    lines[9], lines[499], lines[999] = "{", '{"emr_id": "x"}', lines[0]
    (tmp_path / "records.jsonl").write_text("\n".join(lines))
    report = tmp_path / "report.json"
    code, said = run("import", ward, tmp_path / "records.jsonl", "--json", report)
    assert code == 0
    assert "imported 997 EMRs, 3 left out" in said
    rows = json.loads(report.read_text())["rows"]
    assert [row["where"] for row in rows] == ["line 10", "line 500", "line 1000"]
    assert all(row["reason"] for row in rows)
    assert len(Workspace(ward).read_pool()) == 997


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["coverage", "nowhere"], "error: nowhere is not a workspace"),
        (["import", "WARD", "nowhere.jsonl"], "error: no file at nowhere.jsonl"),
        (["train", "WARD"], "run `clinicoco import` first"),
        (["init", "new", "--codes", "CODES"], "'X99.99Z' is not a code of ICD-10-CM"),
        (["init", "new", "--codes", "nowhere.txt"], "cannot read the code list nowhere.txt"),
        (["models", "promote", "WARD", "v9"], "no model version 'v9'; there are: none"),
        (["models", "rollback", "WARD"], "no earlier model version"),
        (["experiment", "nothing"], "no experiment 'nothing'; there are: "),
        (["bench", "nothing"], "no bench 'nothing'; there are: "),
        (["simulate", "--out", "x", "--noise", "loud"], "no noise preset 'loud'"),
    ],
)
def test_an_expected_error_is_one_clear_line_and_exit_code_1(
    run: Run, ward: Path, tmp_path: Path, arguments: list[str], line: str
):
    codes = tmp_path / "wrong.txt"
    codes.write_text("X99.99Z")
    places = {"WARD": str(ward), "CODES": str(codes)}
    code, said = run(*(places.get(a, a) for a in arguments))
    assert code == 1
    assert line in said
    assert len([row for row in said.strip().splitlines() if not row.startswith("…")]) == 1


@pytest.mark.parametrize("command", ["worker", "serve WARD"])
def test_redis_without_its_extra_is_one_clear_line(ward: Path, command: str):
    code = "import sys; sys.modules['redis'] = None; from ml_backend.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *command.replace("WARD", str(ward)).split()],
        env={**os.environ, "CLINICOCO_REDIS_URL": "redis://127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line == "error: CLINICOCO_REDIS_URL needs the extra: pip install 'clinicoco[redis]'"


@pytest.mark.parametrize(
    "arguments", [["select"], ["select", "w", "--size", "none"], ["nothing"], ["--nothing"]]
)
def test_wrong_usage_has_exit_code_2(run: Run, arguments: list[str]):
    code, said = run(*arguments)
    assert code == 2
    assert "Traceback" not in said


def test_an_unreachable_label_studio_is_named_with_its_address(
    run: Run, ward: Path, environment: pytest.MonkeyPatch
):
    url = f"http://127.0.0.1:{free_port(0)}"
    environment.setenv("CLINICOCO_LABEL_STUDIO_URL", url)
    environment.setenv("CLINICOCO_LABEL_STUDIO_TOKEN", "t" * 40)
    environment.setattr("ml_backend.refusals.ATTEMPTS", 1)
    code, said = run("set-up", ward)
    assert code == 1
    assert f"nothing answers at {url}" in said


def test_set_up_hands_screen_and_overlap_on_and_keeps_them(
    run: Run, ward: Path, environment: pytest.MonkeyPatch
):
    asked: dict[str, Any] = {}

    class Client:
        def set_up(self, title: str, **settings: Any) -> ProjectInfo:
            asked.update(settings)
            return ProjectInfo(1, title, "http://here")

    environment.setattr("ml_backend.commands.project.client", Client)
    assert run("set-up", ward, "--interface", "choices", "--overlap", "2")[0] == 0
    assert (asked["screen"], asked["maximum_annotations"]) == ("choices", 2)
    assert run("set-up", ward)[0] == 0
    assert (asked["screen"], asked["maximum_annotations"]) == ("choices", 2)
    assert run("set-up", ward, "--overlap", "0")[0] == 2


def test_train_keeps_the_network_that_it_is_given(
    run: Run, ward: Path, environment: pytest.MonkeyPatch
):
    trained: list[ProjectConfig] = []

    def train(opened: Workspace, *, progress: Any) -> Trained:
        trained.append(opened.config)
        return Trained(ModelVersion("v1", ward, "now", {}), promoted=True)

    environment.setattr("ml_backend.steps.train_model", train)
    assert run("train", ward, "--network", "quick", "--fine-tune")[0] == 0
    assert run("train", ward)[0] == 0
    assert run("train", ward, "--no-fine-tune")[0] == 0
    assert [c.network for c in trained] == ["quick"] * 3
    assert [c.fine_tune for c in trained] == [True, True, False]
    code, said = run("train", ward, "--network", "none", "--fine-tune")
    assert code == 1
    assert "fine_tune needs a network" in said
    assert Workspace(ward).config == trained[-1]


def test_a_refused_token_is_named_with_its_variable(
    run: Run, ward: Path, environment: pytest.MonkeyPatch
):
    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"detail": "Invalid token."}')

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment.setenv("CLINICOCO_LABEL_STUDIO_URL", f"http://127.0.0.1:{server.server_port}")
    environment.setenv("CLINICOCO_LABEL_STUDIO_TOKEN", "t" * 40)
    code, said = run("set-up", ward)
    server.shutdown()
    assert code == 1
    assert "refused the token" in said
    assert "CLINICOCO_LABEL_STUDIO_TOKEN" in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LABEL_STUDIO_URL", "label-studio"), ("REDIS_URL", "http://user:secret@queue")],
)
def test_a_wrong_setting_names_its_variable(
    run: Run, ward: Path, environment: pytest.MonkeyPatch, variable: str, value: str
):
    environment.setenv(f"CLINICOCO_{variable}", value)
    code, said = run("pull", ward)
    assert code == 1
    assert f"CLINICOCO_{variable}" in said and value not in said


@pytest.mark.parametrize("module", [*EXPERIMENTS.values(), *BENCHMARKS.values()])
def test_every_experiment_and_benchmark_that_is_listed_can_be_run(module):
    assert callable(import_module(module).run)


def test_help_does_not_wait_for_torch():
    check = (
        "import sys, ml_backend.cli; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
