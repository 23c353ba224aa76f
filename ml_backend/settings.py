"""The environment: addresses, credentials and queue of one installation, read by CLI and server."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from label_config.errors import ConfigError

WEBHOOK_HEADER = "X-Clinicoco-Secret"
"""In which Label Studio's webhook shows its secret."""


def _http_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("needs an address such as http://127.0.0.1:8080")
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_http_address)]


def _redis_address(value: str) -> str:
    if value and urlsplit(value).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("needs an address such as redis://127.0.0.1:6379/0")
    return value


MaybeAddress = Annotated[str, AfterValidator(lambda value: value and _http_address(value))]


class Settings(BaseSettings):
    """Each field is the environment variable CLINICOCO_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="CLINICOCO_")

    label_studio_url: Address = "http://127.0.0.1:8080"
    label_studio_token: SecretStr = SecretStr("")
    """A personal access token or a legacy token of Label Studio."""

    backend_host: str = "127.0.0.1"
    backend_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    backend_url: Address = "http://127.0.0.1:9090"
    """Where Label Studio reaches the backend."""
    browser_url: MaybeAddress = ""
    """Where the coders' browsers reach it; empty means `backend_url`."""
    backend_user: str = "label-studio"
    backend_password: SecretStr = SecretStr("")
    """Basic auth on every route but /health."""
    backend_token: SecretStr = SecretStr("")
    """A bearer token that opens the same routes, for monitoring and scripts."""
    webhook_secret: SecretStr = SecretStr("")
    """What Label Studio's webhook shows instead of user and password; it opens /webhook alone."""
    backend_workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that answer; they share the memory of the model that was live at the start."""
    backend_threads: Annotated[int, Field(ge=2, le=512)] = 64
    """Requests held at once per worker, those that wait for the model included."""
    predict_seconds: Annotated[float, Field(gt=0, le=90)] = 30.0
    """When /predict answers at the latest; Label Studio gives up after 100 s."""

    queue_file: Path = platformdirs.user_state_path("clinicoco") / "jobs.db"
    """SQLite file of the job queue; server and worker must name the same one."""
    redis_url: Annotated[str, AfterValidator(_redis_address)] = ""
    """Job queue for a team, instead of the file."""
    encoder: str = ""
    """Encoder name or folder; empty means the packaged default."""
    encoder_back_end: Literal["torch", "openvino", "openvino-int8"] = "torch"
    """What the encoder runs on; "openvino" and "openvino-int8", which is faster and rounds more,
    need the extra "openvino"."""


@cache
def settings() -> Settings:
    """Read the environment once. Raises ConfigError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"CLINICOCO_{first['loc'][0]}".upper()
        raise ConfigError(f"{variable}: {first['msg']}") from None
