"""Other ways to write a code's official name: brackets off, "unspecified" off, words turned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from label_config.taxonomy import Taxonomy
from training.fold import fold_name

_BRACKETS = re.compile(r"\s*[(\[（【]([^()\[\]（）【】]*)[)\]）】]")
_EMPTY_WORDS = re.compile(
    r",?\s*\b(?:NOS|NEC"
    r"|unspecified(?: (?:site|organism|type|part|cause|severity|side|eye|ear|limb))?"
    r"|not otherwise specified|not elsewhere classified|without complications?"
    r"|no especificad[oa]s?|sin especificar|sin complicaci(?:ón|ones))\b",
    re.IGNORECASE,
)
_OTHER = re.compile(r"^(?:other|otr[oa]s?|其他)(?=\b|[\u4e00-\u9fff])", re.IGNORECASE)
_SHORTEST = 2
_LINKING = {"of", "the", "and", "in", "with", "for", "to", "s", "de", "del", "la", "el", "y"}
_KINDS = {"disease", "syndrome", "disorder"}
_REWORDED = (
    (r"^malignant neoplasm of (.+)", (r"\1 cancer", r"\1 carcinoma", r"\1 tumor")),
    (r"^benign neoplasm of (.+)", (r"benign \1 tumor", r"\1 adenoma")),
    (r"^(?:unspecified )?(?:disease|disorder)s? of (?:the )?(.+)", (r"\1 disease", r"\1 disorder")),
    (r"^(?:acquired )?absence of (?:the )?(.+)", (r"\1 absent",)),
    (r"^hereditary (.+)", (r"familial \1",)),
    (r"(.+) deficiency$", (r"deficiency of \1",)),
    (r"^congenital malformations? of (?:the )?(.+)", (r"\1 anomaly", r"\1 defect")),
)
"""How clinicians say what the classification words in its own way."""


def variants(name: str) -> tuple[str, ...]:
    """The name first, then its plainer spellings; a name that says "other" keeps only itself."""
    found = {name.strip(): None}
    if not _OTHER.match(name.strip()):
        for spelling in _spellings(name):
            plain = re.sub(r"\s+", " ", spelling).strip(" ,;")
            if len(plain) >= _SHORTEST:
                found.setdefault(plain)
    return tuple(found)


def names_by_code(
    taxonomy: Taxonomy,
    codes: Iterable[str],
    synonyms: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Official names, their variants and the user's synonyms of every code, without repeats.

    A code that the taxonomy does not hold has only its synonyms.
    """
    extra = synonyms or {}
    table: dict[str, dict[str, str]] = {}
    for code in codes:
        official = taxonomy.names(code) if code in taxonomy else ()
        by_key = table.setdefault(code, {})
        for name in (*official, *extra.get(code, ())):
            for spelling in variants(name):
                if key := fold_name(spelling):
                    by_key.setdefault(key, spelling)
    return {code: tuple(by_key.values()) for code, by_key in table.items()}


def abbreviations(name: str) -> set[str]:
    """The initials of a name of 3 to 5 words, with and without its "disease" or "syndrome"."""
    plain = _BRACKETS.sub("", name).partition(",")[0]
    words = [w for w in re.split(r"[\s\-/']+", plain) if w.isalpha() and w.lower() not in _LINKING]
    shorter = words[:-1] if words and words[-1].lower() in _KINDS else words
    return {
        "".join(word[0] for word in part).upper()
        for part in (words, shorter)
        if 3 <= len(part) <= 5 and plain.isascii()
    }


def _spellings(name: str) -> Iterator[str]:
    without = _BRACKETS.sub("", name)
    plain = _EMPTY_WORDS.sub("", without)
    yield without
    yield plain
    if without != name:
        yield _BRACKETS.sub(r" \1", name)
        yield from (inner for inner in _BRACKETS.findall(name) if _stands_alone(inner, name))
    for pattern, wordings in _REWORDED:
        if match := re.match(pattern, plain, re.IGNORECASE):
            yield from (match.expand(wording) for wording in wordings)
    head, comma, rest = plain.partition(",")
    if comma and "," not in rest:
        yield f"{rest} {head}"


def _stands_alone(inner: str, name: str) -> bool:
    """Square brackets hold another name or an abbreviation; round ones mostly an adjective."""
    return f"[{inner}]" in name or (inner.isupper() and len(inner) > _SHORTEST)


def corrupt(name: str, rng: np.random.Generator) -> str:
    """Spoil a name as hurried typing does: a word or a character lost, doubled or swapped."""
    words = name.split()
    if len(words) > _SHORTEST and rng.random() < 0.5:
        words.pop(int(rng.integers(len(words))))
        return " ".join(words)
    if len(name) <= _SHORTEST:
        return name
    at = int(rng.integers(1, len(name)))
    kind = rng.integers(3)
    if kind == 0:
        return name[:at] + name[at + 1 :]
    if kind == 1:
        return name[:at] + name[at - 1] + name[at:]
    return name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :]
