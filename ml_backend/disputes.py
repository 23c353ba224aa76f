"""Codes that coders of one EMR disagree on, pushed back to Label Studio as a tab of its own.

An adjudicator opens the tab, compares the annotations of a task, corrects one and stars it (Label
Studio's "ground truth"); `pull` then takes the starred one, and the EMR leaves the tab.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_backend.dashboard.agreement import AgreementReport, measure
from ml_backend.label_studio import LabelStudioClient
from ml_backend.steps import project_id
from ml_backend.workspace import Workspace

TAB = "To settle"


def push_back(workspace: Workspace, client: LabelStudioClient) -> AgreementReport:
    """Measure agreement on what is in Label Studio now; list the EMRs in dispute in the tab."""
    project = project_id(workspace)
    places: dict[str, int] = {}

    def noted() -> Iterator[Mapping[str, Any]]:
        for task in client.tasks(project):
            places[str((task.get("data") or {}).get("emr_id"))] = task["id"]
            yield task

    report = measure(workspace, noted())
    ids = [places[emr_id] for emr_id in dict.fromkeys(d.emr_id for d in report.disputes)]
    client.show_tab(project, TAB, ids)
    return report
