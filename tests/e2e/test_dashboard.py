"""The lead's page in a real browser: 20,000 codes, keyboard, light and dark, nothing fetched."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page
from prometheus_client import CollectorRegistry
from typer import Typer
from typer.testing import CliRunner
from werkzeug.serving import make_server

from label_config.record import Coding
from ml_backend.commands import coverage as commands
from ml_backend.dashboard.routes import register
from ml_backend.security import Credentials, protect
from ml_backend.workspace import ProjectConfig, Workspace

pytestmark = pytest.mark.e2e

CODES = tuple(f"{chr(65 + n // 1_000)}{n % 1_000:03d}.{n % 7}" for n in range(20_000))
HOSTILE = "</script><script>alert('1')</script><img src=http://127.0.0.1:1/x onerror=alert(2)>"
SERVED, FROM_DISK = "served", "from disk"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """20,000 codes in 20 chapters, 1,500 EMRs, 100 of them coded."""
    config = ProjectConfig("Ward <7>", CODES, quota=2, taxonomy="tree.csv", project_id=3)
    workspace = Workspace.create(tmp_path_factory.mktemp("lead") / "ward", config)
    with (workspace.folder / "tree.csv").open("w") as file:
        file.write("code,title,parent\n")
        file.writelines(f"{letter},Chapter {letter},\n" for letter in "ABCDEFGHIJKLMNOPQRST")
        file.writelines(
            f'{code},"{HOSTILE if code == CODES[3] else f"Disease {n}"}",{code[0]}\n'
            for n, code in enumerate(CODES)
        )
    draw = random.Random(5)
    noisy = []
    for n in range(1_500):
        codes = tuple(dict.fromkeys(CODES[int(draw.expovariate(1 / 400)) % 20_000] for _ in "12"))
        noisy.append(Coding(f"e{n}", codes, "noisy", confidence=tuple(0.9 for _ in codes)))
    workspace.write_noisy(noisy)
    workspace.add_batch([f"e{n}" for n in range(110)], [""] * 110)
    workspace.write_clean(
        [Coding(f"e{n}", noisy[n].codes, "clean", coder="1", seconds=90.0) for n in range(100)]
    )
    return workspace


@pytest.fixture(scope="module")
def told(ward: Workspace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the commands say, and the page that they write."""
    folder, app = tmp_path_factory.mktemp("told"), Typer()
    commands.add_to(app)
    for command in (
        ["coverage", "--html", folder / "page.html", "--json", folder / "coverage.json"],
        ["forecast", "--json", folder / "forecast.json"],
    ):
        arguments = [command[0], ward.folder, *command[1:]]
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0
    return SimpleNamespace(
        page=folder / "page.html",
        rows=json.loads((folder / "coverage.json").read_text())["rows"],
        forecast=json.loads((folder / "forecast.json").read_text()),
    )


@pytest.fixture(scope="module")
def address(ward: Workspace) -> Iterator[str]:
    """The dashboard behind the backend's own password and headers."""
    app = Flask("small")
    protect(app, Credentials("lead", "secret"), registry=CollectorRegistry())
    serving = SimpleNamespace(workspace=ward)
    register(app, SimpleNamespace(servings=[serving], serving=lambda _: serving))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/dashboard"
    server.shutdown()
    thread.join()


@dataclass
class Lead:
    """The page as a lead uses it, and what the browser did besides."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def codes(self) -> list[str]:
        return self.page.locator("#codes tbody td:first-child").all_inner_texts()

    def row(self) -> list[str]:
        """The cells of the first row."""
        return self.page.locator("#codes tbody tr").first.locator("td").all_inner_texts()

    def search(self, words: str) -> None:
        self.page.keyboard.press("/")
        self.page.keyboard.type(words)


@pytest.fixture(params=[SERVED, FROM_DISK])
def lead(
    request: pytest.FixtureRequest, browser: Browser, address: str, told: SimpleNamespace
) -> Iterator[Lead]:
    with browser.new_context(
        viewport={"width": 1280, "height": 800},
        color_scheme="light",
        http_credentials={"username": "lead", "password": "secret"},
    ) as context:
        opened = Lead(context.new_page())
        page = opened.page
        page.on("request", lambda asked: opened.requests.append(asked.url))
        page.on("console", lambda said: opened.complaints.append(said.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda shown: (opened.complaints.append("dialog"), shown.dismiss()))
        page.goto(address if request.param == SERVED else Path(told.page).as_uri())
        page.wait_for_selector("#codes tbody tr")
        yield opened
        assert opened.complaints == []


def test_the_page_fetches_nothing_and_fits_a_laptop(lead: Lead) -> None:
    lead.page.wait_for_load_state("networkidle")
    pages = [url for url in lead.requests if "dashboard" in url or url.startswith("file:")]
    assert lead.requests == pages
    assert len({url.split("/dashboard")[0] for url in pages}) == 1
    assert lead.page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_headline_says_what_the_command_says(lead: Lead, told: SimpleNamespace) -> None:
    emrs, hours, _ = told.forecast["overall"]
    shown = lead.page.locator("#emrs-to-go").inner_text()
    assert f"{emrs['median']:,}" in shown
    assert f"80 % between {emrs['low']:,} and {emrs['high']:,}" in shown
    assert f"{hours['median']:.0f}" in lead.page.locator("#hours-to-go b").inner_text()
    states = [row["state"] for row in told.rows]
    met, unreachable = states.count("met"), states.count("unreachable")
    assert lead.page.locator("#met b").inner_text() == f"{met:,} of {20_000 - unreachable:,}"
    assert lead.page.locator("#unreachable b").inner_text() == f"{unreachable:,}"


def test_every_code_is_found_with_the_numbers_of_the_command(
    lead: Lead, told: SimpleNamespace
) -> None:
    wanted = next(row for row in told.rows if row["state"] == "open" and row["clean"])
    lead.search(f"{wanted['code'].lower()} disease")
    assert lead.codes() == [wanted["code"]]
    _, title, state, clean, pending, needed, supply, *_ = lead.row()
    assert (title, state) == (wanted["title"], "open")
    assert clean.strip() == f"{wanted['clean']}/{wanted['quota']}"
    numbers = [float(cell) for cell in (pending, needed, supply)]
    assert numbers == [wanted["pending"], wanted["needed"], wanted["supply"]]
    lead.page.keyboard.press("Escape")
    assert lead.page.locator("#shown").inner_text() == "20,000 of 20,000 codes"
    assert lead.codes() == [row["code"] for row in told.rows[:50]]


def test_a_hostile_title_is_shown_as_it_is(lead: Lead) -> None:
    lead.search("onerror")
    assert lead.codes() == [CODES[3]]
    assert lead.row()[1] == HOSTILE


def test_enter_on_a_column_sorts_all_codes_and_turns_round(
    lead: Lead, told: SimpleNamespace
) -> None:
    head = lead.page.get_by_role("button", name="Code", exact=True)
    head.focus()
    lead.page.keyboard.press("Enter")
    assert lead.codes() == sorted(CODES)[:50]
    lead.page.keyboard.press("Enter")
    assert lead.codes() == sorted(CODES, reverse=True)[:50]
    for _ in "321":
        lead.page.keyboard.press("ArrowRight")
    lead.page.keyboard.press("Enter")
    assert lead.page.locator("th[aria-sort=descending]").inner_text().startswith("Clean")
    most = sorted((row["clean"] for row in told.rows), reverse=True)[:50]
    shown = lead.page.locator("#codes tbody td:nth-child(4)").all_inner_texts()
    assert [int(cell.split("/")[0]) for cell in shown] == most


def test_arrows_walk_through_rows_and_pages(lead: Lead, told: SimpleNamespace) -> None:
    codes = [row["code"] for row in told.rows]
    lead.page.keyboard.press("/")
    for _ in range(51):
        lead.page.keyboard.press("ArrowDown")
    focused = "document.activeElement.cells[0].textContent"
    assert lead.page.evaluate(focused) == codes[50]
    lead.page.keyboard.press("ArrowUp")
    assert lead.page.evaluate(focused) == codes[49]
    lead.page.keyboard.press("End")
    assert lead.codes() == codes[-50:]
    assert lead.page.locator("#page").inner_text() == "400 of 400"


def test_states_and_chapters_narrow_the_table(lead: Lead, told: SimpleNamespace) -> None:
    lead.page.select_option("#state", "1")
    lead.page.get_by_role("button", name="Chapter B").click()
    wanted = [r["code"] for r in told.rows if r["state"] == "open" and r["code"][0] == "B"]
    assert lead.page.locator("#shown").inner_text() == f"{len(wanted):,} of 20,000 codes"
    assert lead.codes() == wanted[:50]


def test_light_and_dark_follow_the_system_and_can_be_read(lead: Lead) -> None:
    shades = []
    for scheme in ("light", "dark"):
        lead.page.emulate_media(color_scheme=scheme)
        paper, ink, quiet = (
            _brightness(lead.page, selector, style)
            for selector, style in (
                ("html", "backgroundColor"), ("h1", "color"), (".quiet", "color"),
            )
        )  # fmt: skip
        assert _contrast(paper, ink) > 12
        assert _contrast(paper, quiet) > 4.5
        shades.append(paper)
    assert shades[0] > 0.9 > 0.1 > shades[1]


def _brightness(page: Page, selector: str, style: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""
    colour: Any = page.evaluate(
        "([s, name]) => getComputedStyle(document.querySelector(s))[name].match(/[0-9.]+/g)",
        [selector, style],
    )
    parts = [float(part) / 255 for part in colour[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
