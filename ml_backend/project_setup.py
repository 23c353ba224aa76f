"""Create or repair the Label Studio project, in the order that its server needs.

A Data Manager view first (without one the first opening of a task may lose its predictions), then
our webhook (or Label Studio makes one without credentials), the ML backend, and the settings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from label_studio_sdk import LabelStudio

from label_config.errors import ConfigError, ServerError
from label_config.interface import build_interface
from ml_backend.refusals import Caller
from ml_backend.settings import WEBHOOK_HEADER

MARKER = "Made by CliniCoCo, which finds the project again by its title and this line."
TITLE = "CliniCoCo"
"""Of our ML backend and of our Data Manager view."""
HIDDEN_COLUMNS = (
    *("inner_id", "annotations_results", "annotations_ids", "predictions_results", "created_at"),
    *("predictions_score", "file_upload", "storage_filename", "updated_at", "updated_by"),
    *("draft_exists", "data.about", "data.emr_html", "data.candidates", "data.labels"),
    *("data.principal_options", "data.advice", "data.similar", "data.record"),
)
WEBHOOK_ACTIONS = (
    *("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"),
)
SETTINGS: dict[str, Any] = {
    "sampling": "Sequential sampling",  # with "Label All Tasks": import order, with task locks
    "show_collab_predictions": True,
    "evaluate_predictions_automatically": False,  # or each look at the task list calls the backend
}


@dataclass(frozen=True, slots=True)
class SetupConfig:
    """What a project needs to know."""

    title: str
    """At least 3 characters; with our marker it identifies the project."""
    backend_url: str | None = None
    """The ML backend, as Label Studio reaches it; without one the project lives from push alone."""
    backend_user: str = ""
    backend_password: str = ""
    webhook_secret: str = ""
    """What the webhook shows instead of user and password, if there is one."""
    taxonomy_url: str | None = None
    """The code tree, as the coders' browsers reach it; default is the backend's /taxonomy.json."""
    leaves_only: bool = True
    """Whether coders can add only codes without children."""
    screen: str = "coding"
    """Which labelling interface: "coding", "choices" (small code sets) or "evidence" (review)."""
    maximum_annotations: int = 1
    """How many coders see each task."""

    def __post_init__(self) -> None:
        if len(self.title) < 3:
            raise ConfigError(f"a project title needs at least 3 characters, got {self.title!r}")
        if self.backend_url is None and self.taxonomy_url is None:
            raise ConfigError("set-up needs a backend_url or a taxonomy_url, got neither")

    @property
    def interface(self) -> str:
        """The labelling XML."""
        url = self.taxonomy_url or f"{(self.backend_url or '').rstrip('/')}/taxonomy.json"
        return build_interface(self.screen, taxonomy_url=url, leaves_only=self.leaves_only)


class ProjectSetup:
    """Sets one project up; every step may be repeated."""

    def __init__(self, sdk: LabelStudio, call: Caller, config: SetupConfig) -> None:
        self._sdk = sdk
        self._call = call
        self._config = config

    def run(self, on_project: Callable[[int], None] | None = None) -> int:
        """Return the project's id; `on_project` gets it before the backend is asked anything."""
        project_id = self._project()
        self._view(project_id)
        if on_project is not None:
            on_project(project_id)
        if self._config.backend_url is not None:
            url = self._config.backend_url.rstrip("/")
            self._webhook(project_id, url)
            self._backend(project_id, url)
        self._call(
            "change the project's settings",
            self._sdk.projects.update,
            project_id,
            maximum_annotations=self._config.maximum_annotations,
            # a training that starts inside Submit makes the coder wait for it
            request_options={
                "additional_body_parameters": {"start_training_on_annotation_update": False}
            },
            **SETTINGS,
        )
        return project_id

    def _project(self) -> int:
        projects: list[Any] = self._call(
            "list the projects", lambda: list(self._sdk.projects.list())
        )
        interface = self._config.interface
        for project in projects:
            if project.title == self._config.title and project.description == MARKER:
                if project.label_config != interface:
                    self._call(
                        "change the labelling interface",
                        self._sdk.projects.update,
                        project.id,
                        label_config=interface,
                    )
                return int(project.id)
        created = self._call.once(
            "create the project",
            self._sdk.projects.create,
            title=self._config.title,
            description=MARKER,
            label_config=interface,
            **SETTINGS,
        )
        if created.id is None:
            raise ServerError("Label Studio created a project without an id")
        return created.id

    def _view(self, project_id: int) -> None:
        if self._call("list the views", self._sdk.views.list, project=project_id):
            return
        hidden = [f"tasks:{name}" for name in HIDDEN_COLUMNS]
        data: Any = {
            "title": TITLE,
            "type": "list",
            "target": "tasks",
            "hiddenColumns": {"explore": hidden, "labeling": hidden},
            "filters": {"conjunction": "and", "items": []},
            "ordering": [],
        }
        self._call.once("create a view", self._sdk.views.create, project=project_id, data=data)

    def _webhook(self, project_id: int, backend_url: str) -> None:
        """Our webhook with credentials and our events; it follows a backend that has moved."""
        url = f"{backend_url}/webhook"
        what = f"connect the webhook {url}"
        settings: dict[str, Any] = {
            "url": url,
            "actions": list(WEBHOOK_ACTIONS),
            "send_for_all_actions": False,
            "send_payload": True,
            "is_active": True,
            "headers": self._webhook_headers(),
        }
        moved = {
            f"{b.url.rstrip('/')}/webhook" for b in our_backends(self._sdk, self._call, project_id)
        }
        hooks = self._call(what, self._sdk.webhooks.list, project=project_id)
        ours = [hook for hook in hooks if hook.url in {url, *moved}]
        for extra in ours[1:]:
            self._call(what, self._sdk.webhooks.delete, extra.id)
        if ours:
            self._call(what, self._sdk.webhooks.update, ours[0].id, **settings)
        else:
            self._call.once(what, self._sdk.webhooks.create, project=project_id, **settings)

    def _backend(self, project_id: int, url: str) -> None:
        password = self._config.backend_password
        settings: dict[str, Any] = {
            "url": url,
            "project": project_id,  # Label Studio answers 500 to a change without url and project
            "title": TITLE,
            "auth_method": "BASIC_AUTH" if password else "NONE",
            "is_interactive": True,  # highlights and questions are answered in the open editor
        }
        if password:
            settings |= {"basic_auth_user": self._config.backend_user, "basic_auth_pass": password}
        what = f"connect the ML backend {url}"
        backends = our_backends(self._sdk, self._call, project_id)
        for extra in backends[1:]:
            self._call(what, self._sdk.ml.delete, extra.id)
        if backends:
            self._call(what, self._sdk.ml.update, backends[0].id, **settings)
        else:
            self._call.once(what, self._sdk.ml.create, **settings)

    def _webhook_headers(self) -> dict[str, str]:
        if self._config.webhook_secret:
            return {WEBHOOK_HEADER: self._config.webhook_secret}
        if not self._config.backend_password:
            return {}
        pair = f"{self._config.backend_user}:{self._config.backend_password}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def our_backends(sdk: LabelStudio, call: Caller, project_id: int) -> list[Any]:
    """The project's ML backends that set-up has made; Label Studio asks each for its version."""
    found = call("list the ML backends", sdk.ml.list, project=project_id)
    return [backend for backend in found if backend.title == TITLE]
