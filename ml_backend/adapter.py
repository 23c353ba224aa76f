"""Our model class under a label-studio-ml 2.x server, where that is installed.

from label_studio_ml.api import init_app
from ml_backend.adapter import backend_class
app = init_app(backend_class([Path("ward")]))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from label_config.errors import ConfigError
from ml_backend.model import CliniCoCoModel
from ml_backend.serving import Backend


def backend_class(folders: Sequence[Path]) -> type:
    """The class for `init_app`; the models behind it are loaded once per process.

    Raises ConfigError where label-studio-ml 2.x is not installed.
    """
    try:
        from label_studio_ml.model import LabelStudioMLBase  # type: ignore[import-not-found]
        from label_studio_ml.response import ModelResponse  # type: ignore[import-not-found]
    except ImportError:
        raise ConfigError(
            "label-studio-ml 2.x is not installed; `clinicoco serve` needs none"
        ) from None
    backend = Backend(folders)

    class CliniCoCoBackend(LabelStudioMLBase):  # type: ignore[misc]
        """Hands every call to CliniCoCoModel."""

        def setup(self) -> None:
            self.ours = CliniCoCoModel(self.project_id, self.label_config, backend=backend)
            self.set("model_version", self.ours.model_version or "none")

        def predict(
            self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **_: Any
        ) -> Any:
            answer = self.ours.predict(tasks, context)
            return ModelResponse(predictions=answer.predictions, model_version=answer.model_version)

        def fit(self, event: str, data: dict[str, Any], **_: Any) -> Any:
            return self.ours.fit(event, data)

    return CliniCoCoBackend
