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
    "ask": "textarea",
}
"""Every control's name, and the type of its results. `show` only filters what is seen; `ask` holds
questions to the model and its answers."""

THRESHOLDS = {"≥ 90%": 9, "≥ 70%": 7, "≥ 50%": 5}
"""The `show` radio's values, in tenths; beside them stands "all"."""
DEFAULT_SHOWN = "≥ 50%"

INTERFACES = {
    "coding": "interface.xml",
    "choices": "interface_choices.xml",
    "evidence": "interface_evidence.xml",
}
"""The whole screen; a lean one for small code sets, every code a row; and one to review
highlights."""
LEAN_CANDIDATES = 60
"""Rows that the lean screen's style sheet knows; its tasks list the whole code set."""
KEYS = (
    "Ctrl+Enter submit · Ctrl+Space skip · Ctrl+Z undo · Alt+. next highlight · Backspace remove it"
)
_EMPTY_TREE = 'toName="emr"><Choice value="-"/></Taxonomy>'
_UNUSED = (
    '<Choices name="show" toName="emr"><Choice value="≥ 90%"/><Choice value="≥ 70%"/>'
    '<Choice value="≥ 50%"/><Choice value="all"/></Choices>',
    '<Choices name="principal" toName="emr" choice="single" value="$principal_options"/>',
    f'<Taxonomy name="other" {_EMPTY_TREE}',
    f'<Taxonomy name="evidence_code" perRegion="true" {_EMPTY_TREE}',
    '<TextArea name="ask" toName="emr"/>',
)
"""Controls that an interface without them holds unseen."""


def build_interface(
    name: str = "coding",
    *,
    taxonomy_url: str,
    leaves_only: bool = True,
    placeholder: str = "Search codes or titles…",
) -> str:
    """The labelling XML of a project, one of `INTERFACES`.

    `taxonomy_url` is where the browser fetches the code tree (`taxonomy.tree_json`), absolute, with
    CORS allowed. With `leaves_only` a coder can add only codes without children. All interfaces
    hold all controls, seen or not, so that tasks and annotations of one fit the others.
    """
    if name not in INTERFACES:
        raise ConfigError(f"interface must be one of {', '.join(INTERFACES)}, got {name!r}")
    parts = urlsplit(taxonomy_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"taxonomy_url must be an absolute http(s) address, got {taxonomy_url!r}")
    template = files("label_config").joinpath(INTERFACES[name]).read_text("utf-8")
    unused = "".join(tag for tag in _UNUSED if not _holds(template, tag))
    if name == "choices":  # every code of the set is a row, whatever the model thinks of it
        rows = _hover_css(LEAN_CANDIDATES) + _advice_css(LEAN_CANDIDATES)
    else:
        rows = "".join(css(MOST_CANDIDATES) for css in (_threshold_css, _hover_css, _advice_css))
    values = {
        "style": escape(_css("interface.css") + rows),
        "taxonomy_url": quoteattr(taxonomy_url),
        "leaves_only": quoteattr(str(leaves_only).lower()),
        "placeholder": quoteattr(placeholder),
        "keys": KEYS,
        "unused": f'<View className="unused">{unused}</View>' if unused else "",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _holds(template: str, tag: str) -> bool:
    name = re.search(r'name="\w+"', tag)
    return name is not None and name[0] in template


def _css(name: str) -> str:
    text = files("label_config").joinpath(name).read_text("utf-8")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def _threshold_css(places: int) -> str:
    """Hide rows below the chosen threshold, and their evidence, unless they are ticked.

    A `:has()` inside another is not allowed, so the conditions stand side by side.
    """
    rules = []
    for value, tenths in THRESHOLDS.items():
        chosen = f".icd:has([name='{value}']:checked)"
        rules.append(
            f"{chosen} .cand .lsf-choice:has(.b{tenths}):not(:has(input:checked)){{display:none}}"
        )
        for place in range(1, places + 1):
            row = _row(place)
            hidden = f"{chosen}:has({row} .b{tenths}):not(:has({row} input:checked))"
            rules.append(f"{hidden} [class*='_k{place}_']{{background:none !important}}")
    return "\n".join(rules) + "\n"


def _hover_css(places: int) -> str:
    """Frame the evidence of the candidate under the pointer, in its label's colour."""
    rules = [
        f".icd:has({_row(place)}:hover) [class*='_k{place}_']"
        f"{{box-shadow:0 0 0 2px {COLOURS[(place - 1) % len(COLOURS)]}}}"
        for place in range(1, places + 1)
    ]
    return "\n".join(rules) + "\n"


def _advice_css(places: int) -> str:
    """Show a line of advice only while the rows that it speaks of are ticked as it says."""
    rules = []
    for place in range(1, places + 1):
        principal = f".principal .lsf-choice:nth-child({place}) input"
        rules += [
            f".icd:has({_row(place)} input:not(:checked)) .w.y{place},"
            f".icd:has({_row(place)} input:checked) .w.n{place},"
            f".icd:has({principal}:not(:checked)) .w.p{place},"
            f".icd:has({_row(place)} input:not(:checked)) "
            f".principal .lsf-choice:nth-child({place}):not(:has(input:checked)){{display:none}}"
        ]
    return "\n".join(rules) + "\n"


def _row(place: int) -> str:
    return f".cand .lsf-choice:nth-child({place})"
