import json
import logging

import pytest

from ml_backend.logs import JsonFormatter, place_of

MARKER = "patient-Jane-Roe"


def line(name: str, level: int, message: str, *args: object, **more: object) -> dict:
    record = logging.LogRecord(name, level, "x.py", 1, message, args, None)
    record.__dict__.update(more)
    return json.loads(JsonFormatter().format(record))


def failing() -> None:
    raise RuntimeError(MARKER)


def test_a_line_is_one_object_with_time_level_and_message():
    said = line("ml_backend.serving", logging.ERROR, "model %s was not loaded", "v2")
    assert said["message"] == "model v2 was not loaded"
    assert (said["level"], said["from"]) == ("ERROR", "ml_backend.serving")
    assert said["at"].endswith("+00:00")


def test_fields_stand_beside_each_other():
    said = line("clinicoco.requests", logging.INFO, "x", fields={"route": "predict", "ms": 3.5})
    assert (said["route"], said["ms"]) == ("predict", 3.5)


@pytest.mark.parametrize("name", ["gunicorn.error", "huey", "werkzeug"])
def test_another_library_s_warning_keeps_its_fixed_words_only(name: str):
    said = line(name, logging.WARNING, "Invalid request: %s", MARKER)
    assert said["message"] == "Invalid request: %s"


def test_an_exception_is_its_type_and_place():
    try:
        failing()
    except RuntimeError as error:
        info = (RuntimeError, error, error.__traceback__)
        said = line("ml_backend.x", logging.ERROR, "it failed", exc_info=info)
        assert said["exception"].startswith("RuntimeError at failing:")
        assert MARKER not in json.dumps(said)
        assert place_of(RuntimeError(MARKER)) == "RuntimeError at ?"
