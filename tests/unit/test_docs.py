"""What README, Makefile, compose file and CONTRIBUTING name must exist."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from ml_backend import cli
from ml_backend.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "simulator/reports/README.md")
]
COMMAND = re.compile(r"(?:\.venv/bin/|`)clinicoco ([a-z-]+)((?: [^`#\n|]*)?)")


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def subcommand(name: str):
    group = typer.main.get_command(cli.app)
    return group.get_command(None, name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.parent.name + "/" + d.name)
def test_every_make_target_that_a_document_names_exists(document: Path):
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text("utf-8"), re.MULTILINE))
    assert named <= makefile_targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.parent.name + "/" + d.name)
def test_every_command_and_option_that_a_document_names_exists(document: Path):
    for name, rest in COMMAND.findall(document.read_text("utf-8")):
        command = subcommand(name)
        assert command is not None, name
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        assert set(re.findall(r"(--[a-z-]+)", rest)) <= options, name


def test_the_readme_names_every_setting_with_its_default():
    named = set(re.findall(r"CLINICOCO_([A-Z_]+)", README))
    assert named == {name.upper() for name in Settings.model_fields}
    for name in ("backend_port", "backend_threads", "backend_url", "label_studio_url"):
        assert f"`{Settings.model_fields[name].default}`" in README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.parent.name + "/" + d.name)
def test_every_file_that_a_document_links_to_exists(document: Path):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8"))
    assert all((document.parent / link).exists() for link in links if "://" not in link)


def test_every_report_is_read_from_their_page():
    reports = ROOT / "simulator" / "reports"
    linked = re.findall(r"\]\(([a-z0-9_]+\.md)\)", (reports / "README.md").read_text("utf-8"))
    assert set(linked) == {path.name for path in reports.glob("*.md")} - {"README.md"}


def test_the_compose_file_runs_the_commands_that_the_demo_runs():
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    assert set(services) == {"label-studio", "backend", "worker"}
    demo = (ROOT / "ml_backend" / "demo.py").read_text("utf-8")
    for service in ("backend", "worker"):
        name = services[service]["command"][0]
        assert subcommand(name) is not None
        assert f'"{name}"' in demo
    environment = services["backend"]["environment"]
    known = {f"CLINICOCO_{name.upper()}" for name in Settings.model_fields}
    assert set(environment) <= known
    browsers = urlsplit(environment["CLINICOCO_BROWSER_URL"].partition(":-")[2].rstrip("}"))
    assert f"{browsers.hostname}:{browsers.port}:9090" in services["backend"]["ports"]
    local = (ROOT / "ml_backend" / "local_server.py").read_text("utf-8")
    for name in ("ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED", "COLLECT_ANALYTICS"):
        assert services["label-studio"]["environment"][name] == "0"
        assert name in local


def test_every_module_has_a_caption():
    folders = ("label_config", "simulator", "training", "sampler", "ml_backend")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    captions = [path.read_text("utf-8").lstrip().splitlines()[0] for path in modules]
    assert all(caption.startswith('"""') and len(caption) > 20 for caption in captions)
