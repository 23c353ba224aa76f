"""The labelling interface: one record at the left, every decision about it at the right.

`interface.xml` holds the tags and `interface.css` their looks; what depends on numbers of this
package (thresholds, candidate rows) is written here.
"""

from __future__ import annotations

import re
from importlib.resources import files
from urllib.parse import urlsplit
from xml.sax.saxutils import escape, quoteattr

from label_config.cards import COLOURS, MOST_CANDIDATES
from label_config.errors import ConfigError

CONTROLS = {
    "codes": "choices",
    "other": "taxonomy",
    "principal": "choices",
    "quality": "choices",
    "note": "textarea",
    "evidence": "labels",
    "evidence_code": "taxonomy",
    "show": "choices",
}
"""Every control's name, and the type of its results. `show` only filters what is seen."""

THRESHOLDS = {"≥ 90%": 9, "≥ 70%": 7, "≥ 50%": 5}
"""The `show` radio's values, in tenths; beside them stands "all"."""
DEFAULT_SHOWN = "≥ 50%"


def build_interface(
    *, taxonomy_url: str, leaves_only: bool = True, placeholder: str = "Search codes or titles…"
) -> str:
    """The labelling XML of a project.

    `taxonomy_url` is where the browser fetches the code tree (`taxonomy.tree_json`), absolute, with
    CORS allowed. With `leaves_only` a coder can add only codes without children.
    """
    parts = urlsplit(taxonomy_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"taxonomy_url must be an absolute http(s) address, got {taxonomy_url!r}")
    values = {
        "style": escape(_css("interface.css") + _threshold_css() + _hover_css()),
        "taxonomy_url": quoteattr(taxonomy_url),
        "leaves_only": quoteattr(str(leaves_only).lower()),
        "placeholder": quoteattr(placeholder),
    }
    template = files("label_config").joinpath("interface.xml").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _css(name: str) -> str:
    text = files("label_config").joinpath(name).read_text("utf-8")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _threshold_css() -> str:
    """Hide rows below the chosen threshold, and their evidence, unless they are ticked.

    A `:has()` inside another is not allowed, so the conditions stand side by side.
    """
    rules = []
    for value, tenths in THRESHOLDS.items():
        chosen = f".icd:has([name='{value}']:checked)"
        rules.append(
            f"{chosen} .cand .lsf-choice:has(.b{tenths}):not(:has(input:checked)){{display:none}}"
        )
        for place in range(1, MOST_CANDIDATES + 1):
            row = f".cand .lsf-choice:nth-child({place})"
            hidden = f"{chosen}:has({row} .b{tenths}):not(:has({row} input:checked))"
            rules.append(f"{hidden} [class*='_k{place}_']{{background:none !important}}")
    return "\n".join(rules) + "\n"


def _hover_css() -> str:
    """Frame the evidence of the candidate under the pointer, in its label's colour."""
    rules = [
        f".icd:has(.cand .lsf-choice:nth-child({place}):hover) [class*='_k{place}_']"
        f"{{box-shadow:0 0 0 2px {COLOURS[(place - 1) % len(COLOURS)]}}}"
        for place in range(1, MOST_CANDIDATES + 1)
    ]
    return "\n".join(rules) + "\n"
