"""What a task shows beside the record: candidate codes, evidence labels, similar cases.

Candidates stand in two groups: what the diagnosis names say, then what only the text says.

Everything that comes from data is escaped here; titles, texts and ids may hold any characters.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from label_config.errors import UnknownCode
from label_config.html import shown
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.taxonomy import Taxonomy

OTHER = "Other"
"""The label of evidence for a code that is not among the candidates."""
USUAL_CANDIDATES = 12
MOST_CANDIDATES = 20

COLOURS = (
    *("#dc2626", "#2563eb", "#16a34a", "#9333ea", "#ea580c", "#0891b2", "#db2777"),
    *("#65a30d", "#7c3aed", "#b45309", "#0d9488", "#4f46e5", "#be123c", "#15803d"),
    *("#c026d3", "#0369a1", "#a16207", "#475569", "#e11d48", "#059669"),
)
CANDIDATE_KEYS = (*"123456789", "0")
PRINCIPAL_KEYS = tuple(f"shift+{key}" for key in CANDIDATE_KEYS)
LABEL_KEYS = "qwertyiopasv"  # "u" is Label Studio's own
OTHER_KEY = "d"
SPEAKERS = {"Dx": "diagnosis names", "Text": "record text"}
GROUPS = {
    "Dx": "From the diagnosis names",
    "Text": "From the record text",
    "": "Also in the code set",
}
MEMBER_NAMES = {
    "names": "diagnosis names",
    "lexicon": "lexicon",
    "phrases": "coders' phrases",
    "sparse": "word model",
    "network": "network",
    "knn": "similar cases",
    "described": "the code's own name",
}
SPOKE = 0.5
_SPACES = re.compile(r"\s+")
_SAID = re.compile(r"(\D+) (\d{1,3})%")


def choose_candidates(
    suggestions: SuggestionSet | None, always: Sequence[str] = ()
) -> tuple[Suggestion, ...]:
    """The suggestions that get a row, by group: the first 12, or every ticked one up to 20.

    Codes in `always` get a row even if nobody suggests them.
    """
    chosen: tuple[Suggestion, ...] = ()
    if suggestions is not None:
        ticked = len(suggestions.ticked())
        chosen = suggestions.suggestions[: max(USUAL_CANDIDATES, min(ticked, MOST_CANDIDATES))]
        chosen += tuple(s for s in suggestions.suggestions[len(chosen) :] if s.code in always)
    known = {suggestion.code for suggestion in chosen}
    rest = tuple(Suggestion(code, 0.0) for code in dict.fromkeys(always) if code not in known)
    order = list(GROUPS)
    return (*sorted(chosen, key=lambda s: order.index(group_of(s))), *rest)


def group_of(suggestion: Suggestion) -> str:
    """The first speaker: "Dx" where the diagnosis names support the code, else "Text"; "" if
    nobody speaks.
    """
    speakers = _speakers(suggestion)
    return next((name for name in SPEAKERS if name in speakers), "")


def candidate_rows(chosen: Sequence[Suggestion], taxonomy: Taxonomy) -> list[dict[str, str]]:
    """The rows of the `codes` control; the first of each group carries its heading."""
    rows, seen = [], set[str]()
    for position, suggestion in enumerate(chosen):
        group = group_of(suggestion)
        rows.append(_candidate(suggestion, taxonomy, position, opens=group not in seen))
        seen.add(group)
    return rows


def _candidate(
    suggestion: Suggestion, taxonomy: Taxonomy, position: int, *, opens: bool
) -> dict[str, str]:
    title = title_of(suggestion.code, taxonomy)
    percent = round(100 * suggestion.confidence)
    said = [
        f"{MEMBER_NAMES.get(member, member)} {round(100 * score)}%"
        for member, score in sorted(suggestion.members.items(), key=lambda m: (-m[1], m[0]))
        if score >= 0.005
    ]
    row = {
        # the tag's filter searches the value; results hold the alias
        "value": f"{suggestion.code} {title}".strip(),
        "alias": suggestion.code,
        "hint": " · ".join((f"{suggestion.code} {title}".strip(), f"{percent}%", *said)),
        "html": _candidate_html(suggestion, title, percent, opens=opens),
    }
    if position < len(CANDIDATE_KEYS):
        row["hotkey"] = CANDIDATE_KEYS[position]
    return row


def members_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Which members spoke for a row's code and how sure they were, 0 to 1, as its hint says."""
    member_of = {shown: member for member, shown in MEMBER_NAMES.items()}
    said: dict[str, float] = {}
    for part in reversed(str(row.get("hint") or "").split(" · ")):
        match = _SAID.fullmatch(part)
        if match is None:  # the confidence, and before it code and title
            break
        said[member_of.get(match[1], match[1])] = int(match[2]) / 100
    return said


def labels(codes: Sequence[str], taxonomy: Taxonomy) -> list[dict[str, str]]:
    """The evidence labels: one per candidate code, then Other."""
    found = []
    for position, code in enumerate(codes):
        label = {
            "value": code,
            "background": COLOURS[position % len(COLOURS)],
            "hint": f"{code} {title_of(code, taxonomy)}".strip(),
        }
        if position < len(LABEL_KEYS):
            label["hotkey"] = LABEL_KEYS[position]
        found.append(label)
    hint = "Evidence for a code that is not listed"
    return [*found, {"value": OTHER, "background": "#6b7280", "hint": hint, "hotkey": OTHER_KEY}]


def principal_options(codes: Sequence[str], taxonomy: Taxonomy) -> list[dict[str, str]]:
    """The choices for the principal diagnosis: the candidates, then the first added code."""
    options = []
    for position, code in enumerate(codes):
        option = {"value": code, "hint": f"{code} {title_of(code, taxonomy)}".strip()}
        if position < len(PRINCIPAL_KEYS):
            option["hotkey"] = PRINCIPAL_KEYS[position]
        options.append(option)
    hint = "The first code under Add other codes"
    return [*options, {"value": "added", "alias": OTHER, "hint": hint, "hotkey": "shift+a"}]


def similar_html(cases: Sequence[SimilarCase], taxonomy: Taxonomy) -> str:
    """Similar cases for the Markdown tag, as one HTML block without a line break.

    Without blank lines nothing inside the block is read as Markdown.
    """
    return "".join(_case_html(case, taxonomy, is_first=case is cases[0]) for case in cases)


def title_of(code: str, taxonomy: Taxonomy) -> str:
    """The code's title; empty for a code that the taxonomy does not hold."""
    try:
        return _SPACES.sub(" ", taxonomy.title(code)).strip()
    except UnknownCode:
        return ""


def _candidate_html(suggestion: Suggestion, title: str, percent: int, *, opens: bool) -> str:
    scores = _scores(suggestion)
    speakers = _speakers(suggestion)
    badges = "".join(
        f'<em class="{name.lower()}{"" if name in speakers else " mute"}">'
        f"{name} {round(100 * scores[name])}</em>"
        for name in SPEAKERS
    )
    below = " ".join(f"b{level}" for level in (9, 7, 5) if suggestion.confidence < level / 10)
    colour = "high" if percent >= 70 else "mid" if percent >= 50 else "low"
    group = group_of(suggestion)
    heading = f" first {group.lower() or 'rest'}-group" if opens else ""
    return (
        f'<span class="c {colour} {below}{heading}"><b>{_safe(suggestion.code)}</b>'
        f"<span>{_safe(title)}</span><span>{badges}</span>"
        f'<i><u style="width:{percent}%"></u></i><small>{percent}%</small></span>'
    )


def _scores(suggestion: Suggestion) -> dict[str, float]:
    """What the diagnosis names say, and the most that any reader of the text says."""
    by_text = max((s for m, s in suggestion.members.items() if m != "names"), default=0.0)
    return {"Dx": suggestion.members.get("names", 0.0), "Text": by_text}


def _speakers(suggestion: Suggestion) -> set[str]:
    """Who supports the code: the names, the text, or both; the louder one if neither is sure."""
    scores = _scores(suggestion)
    found = {name for name, score in scores.items() if score >= SPOKE}
    if not found and suggestion.members:
        found = {"Dx" if scores["Dx"] > scores["Text"] else "Text"}
    return found


def _case_html(case: SimilarCase, taxonomy: Taxonomy, *, is_first: bool) -> str:
    codes = " ".join(
        f'<code title="{_safe(title_of(code, taxonomy))}">{_safe(code)}</code>'
        for code in case.codes
    )
    shared = ", ".join(_safe(word) for word in case.shared_words)
    shared = f'<p class="shared">Shared: {shared}</p>' if shared else ""
    return (
        f"<details{' open' if is_first else ''}><summary><b>{_safe(case.emr_id)}</b> "
        f"<small>{case.similarity:.2f}</small> {codes}</summary>"
        f"<p>{_with_marks(case.excerpt, case.shared_words)}</p>{shared}</details>"
    )


def _with_marks(excerpt: str, words: Sequence[str]) -> str:
    """The escaped excerpt with the shared words marked."""
    wanted = sorted({w for w in words if w.strip()}, key=len, reverse=True)
    if not wanted:
        return _safe(excerpt)
    pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in wanted)
    pieces = re.split(f"({pattern})", excerpt, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{_safe(piece)}</mark>" if odd % 2 else _safe(piece)
        for odd, piece in enumerate(pieces)
    )


def _safe(text: str) -> str:
    return html.escape(_SPACES.sub(" ", shown(text)))
