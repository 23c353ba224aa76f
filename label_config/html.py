"""The record as HTML, and the one place where its characters are counted.

A page is one `<div>` with a `<section>` per text, each `<h4>name</h4><p>text</p>`, so every text is
exactly one text node. Label Studio addresses a region by the node's XPath and by UTF-16 units
inside the node, and beside that by code points in the whole page; `EvidenceSpan` counts code
points.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_config.errors import DataError
from label_config.record import EMR

Span = tuple[str, int, int]
"""(section, start, end) in code points of `EMR.text_of(section)`."""

_XPATH = re.compile(r"/div\[1\](?:/section\[(\d{1,4})\](?:/(h4|p)\[1\](/text\(\)\[1\])?)?)?")
_UNSHOWABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Node:
    section: str
    text: str
    xpath: str
    global_start: int
    """Where the text begins in the whole page's text."""


class RecordPage:
    """One EMR as Label Studio shows it: its HTML, and regions to spans and back."""

    def __init__(self, emr: EMR) -> None:
        self.emr_id = emr.emr_id
        self._nodes: list[_Node] = []
        parts, length = [], 0
        for number, (section, raw) in enumerate(emr.texts(), start=1):
            name, text = shown(section), shown(raw)
            xpath = f"/div[1]/section[{number}]/p[1]/text()[1]"
            self._nodes.append(_Node(section, text, xpath, length + len(name)))
            length += len(name) + len(text)
            parts.append(
                f"<section><h4>{html.escape(name)}</h4><p>{html.escape(text)}</p></section>"
            )
        self.html = f"<div>{''.join(parts)}</div>"

    def region(self, section: str, start: int, end: int) -> dict[str, Any]:
        """The region value of `section[start:end]`, without its label.

        Raises DataError for a section that is not shown, offsets outside its text, or blank text.
        """
        node = next((n for n in self._nodes if n.section == section), None)
        if node is None:
            raise DataError(f"EMR {self.emr_id} shows no section {section!r}")
        if not 0 <= start < end <= len(node.text):
            raise DataError(
                f"a region of EMR {self.emr_id} must lie in 0..{len(node.text)}, got {start}..{end}"
            )
        if not node.text[start:end].strip():
            raise DataError(f"a region of EMR {self.emr_id} covers only blanks")
        return {
            "start": node.xpath,
            "end": node.xpath,
            "startOffset": _units(node.text[:start]),
            "endOffset": _units(node.text[:end]),
            "globalOffsets": {"start": node.global_start + start, "end": node.global_start + end},
            "text": node.text[start:end],
        }

    def spans(self, value: Mapping[str, Any]) -> list[Span]:
        """The spans that a region covers: one for each section that it touches.

        Headings and blank ends between sections belong to no span. Raises DataError if the region
        does not lie on this page.
        """
        first, start = self._position(value.get("start"), value.get("startOffset"))
        last, end = self._position(value.get("end"), value.get("endOffset"))
        found: list[Span] = []
        for index in range(first, min(last, len(self._nodes) - 1) + 1):
            node = self._nodes[index]
            begin = start if index == first else 0
            stop = end if index == last else len(node.text)
            if node.text[begin:stop].strip():
                found.append((node.section, begin, stop))
        if not found:
            raise DataError("the region covers no text of the record")
        return found

    def _position(self, xpath: object, offset: object) -> tuple[int, int]:
        """(index of the node, code points into its text) of one end of a region.

        A browser may also end a selection on an element; the offset then counts its children.
        """
        match = _XPATH.fullmatch(xpath) if isinstance(xpath, str) else None
        if match is None or isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise DataError("the region has no place on this page")
        number, tag, is_text = match.groups()
        if number is None:
            return offset, 0
        index = int(number) - 1
        if not 0 <= index < len(self._nodes):
            raise DataError(f"the region points at section {number} of {len(self._nodes)}")
        if tag == "h4":
            return index, 0
        text = self._nodes[index].text
        if is_text:
            return index, _code_points(text, offset)
        children_before = 1 if tag == "p" else 2
        return index, len(text) if offset >= children_before else 0


def shown(text: str) -> str:
    """The text with every character that a browser would change replaced, one for one.

    Carriage returns become blanks or line feeds; NUL and lone surrogates become U+FFFD.
    """
    text = text.replace("\r\n", " \n").replace("\r", "\n")
    return _UNSHOWABLE.sub("\ufffd", text)


def _units(text: str) -> int:
    """The text's length in UTF-16 units: two for each character beyond U+FFFF."""
    return len(text.encode("utf-16-le")) // 2


def _code_points(text: str, units: int) -> int:
    """The number of characters that the first `units` UTF-16 units hold.

    Raises DataError if the text is shorter.
    """
    encoded = text.encode("utf-16-le")
    if units * 2 > len(encoded):
        raise DataError(f"the region's offset must be at most {len(encoded) // 2}, got {units}")
    return len(encoded[: units * 2].decode("utf-16-le", errors="ignore"))
