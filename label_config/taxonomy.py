"""A code set as a tree: titles, parents, chapters, siblings, synonyms and notes of every code."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from label_config.errors import DataError, UnknownCode
from label_config.files import atomic_path

Level = Literal["chapter", "block", "category", "subcategory"]
LEVELS: tuple[Level, ...] = ("chapter", "block", "category", "subcategory")
CSV_COLUMNS = ("code", "title", "parent", "synonyms")


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """One node of the tree. The tuples keep the source's own wording."""

    code: str
    title: str
    parent: str | None
    level: Level
    synonyms: tuple[str, ...] = ()
    """Inclusion terms: other names of the same code."""
    excludes1: tuple[str, ...] = ()
    excludes2: tuple[str, ...] = ()
    code_first: str = ""
    use_additional: str = ""


class Taxonomy:
    """An immutable code set. Iterates over its entries, parents before children."""

    def __init__(self, name: str, entries: Iterable[CodeEntry]) -> None:
        """Build the tree; `name` is its release, for example "ICD-10-CM April 2026".

        Raises DataError for a repeated code, an unknown parent, or an empty set.
        """
        self.name = name
        self._entries: dict[str, CodeEntry] = {}
        for entry in entries:
            if entry.code in self._entries:
                raise DataError(f"taxonomy {name} holds code {entry.code} twice")
            self._entries[entry.code] = entry
        if not self._entries:
            raise DataError(f"taxonomy {name} needs at least one code, got none")
        self._children: dict[str, list[str]] = {code: [] for code in self._entries}
        for entry in self._entries.values():
            if entry.parent is None:
                continue
            if entry.parent not in self._entries:
                raise DataError(f"code {entry.code} names parent {entry.parent}, which is missing")
            self._children[entry.parent].append(entry.code)

    # -- reading and writing ------------------------------------------------------------------

    @classmethod
    def icd10cm(cls) -> Taxonomy:
        """ICD-10-CM as packaged by simple-icd-10-cm, parsed once and cached as Parquet."""
        release = version("simple-icd-10-cm")
        cache = Path(platformdirs.user_cache_dir("clinicoco")) / f"icd10cm-{release}.parquet"
        name = f"ICD-10-CM (simple-icd-10-cm {release})"
        if cache.exists():
            try:
                return cls(name, _read_entries(cache))
            except (pa.ArrowException, DataError, TypeError):
                cache.unlink()  # written by an older version or cut short: parse again
        taxonomy = cls(name, _parse_icd10cm())
        with atomic_path(cache) as path:
            rows = [{**asdict(entry)} for entry in taxonomy]
            pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path, compression="zstd")
        return taxonomy

    @classmethod
    def from_csv(cls, path: Path) -> Taxonomy:
        """Read columns code, title and optionally parent and synonyms (separated by "|").

        A parent must stand in the file too; a code without one is a chapter of its own.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                missing = {"code", "title"} - set(reader.fieldnames or ())
                if missing:
                    raise DataError(f"{path} needs columns code and title, got {reader.fieldnames}")
                rows = list(reader)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise DataError(f"{path} must be UTF-8 text") from None
        return cls(path.stem, _entries_from_rows(rows, path))

    def to_csv(self, path: Path) -> None:
        """Write the columns that `from_csv` reads."""
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_COLUMNS)
            for e in self:
                writer.writerow([e.code, e.title, e.parent or "", "|".join(e.synonyms)])

    # -- looking up ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[CodeEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, code: object) -> bool:
        return code in self._entries

    def __getitem__(self, code: str) -> CodeEntry:
        try:
            return self._entries[code]
        except KeyError:
            near = difflib.get_close_matches(code, self._near(code), n=3, cutoff=0.6)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UnknownCode(f"{code!r} is not a code of {self.name}{hint}") from None

    def normalise(self, code: str) -> str:
        """Return the code as the tree spells it: "i639" -> "I63.9". Raises UnknownCode."""
        code = code.strip()
        found = code if code in self else self._by_bare.get(_bare(code))
        return self[code].code if found is None else found

    def title(self, code: str) -> str:
        """The code's own title."""
        return self[code].title

    def names(self, code: str) -> tuple[str, ...]:
        """Title and synonyms."""
        entry = self[code]
        return (entry.title, *entry.synonyms)

    def children(self, code: str) -> tuple[str, ...]:
        """Direct children, in the set's order."""
        self[code]
        return tuple(self._children[code])

    def is_leaf(self, code: str) -> bool:
        """True for a code without children: the most specific one."""
        return not self.children(code)

    def leaves(self) -> Iterator[str]:
        """Every code without children."""
        return (code for code, children in self._children.items() if not children)

    def ancestors(self, code: str) -> tuple[str, ...]:
        """Parent first, chapter last."""
        above: list[str] = []
        parent = self[code].parent
        while parent is not None:
            above.append(parent)
            parent = self._entries[parent].parent
        return tuple(above)

    def siblings(self, code: str) -> tuple[str, ...]:
        """The other children of the same parent; none for a chapter."""
        parent = self[code].parent
        if parent is None:
            return ()
        return tuple(c for c in self._children[parent] if c != code)

    def category(self, code: str) -> str:
        """The three-character category at or above the code; the code itself above that level."""
        for candidate in (code, *self.ancestors(code)):
            if self[candidate].level == "category":
                return candidate
        return code

    def chapter(self, code: str) -> str:
        """The topmost ancestor."""
        return (code, *self.ancestors(code))[-1]

    def __repr__(self) -> str:
        return f"Taxonomy({self.name!r}, {len(self)} entries)"

    @cached_property
    def _by_bare(self) -> dict[str, str]:
        return {_bare(code): code for code in self._entries}

    def _near(self, code: str) -> list[str]:
        start = code[:1].upper()
        return [c for c in self._entries if c.startswith(start)]


_TEXTS = pa.list_(pa.string())
_SCHEMA = pa.schema(
    [
        pa.field("code", pa.string()),
        pa.field("title", pa.string()),
        pa.field("parent", pa.string()),
        pa.field("level", pa.string()),
        pa.field("synonyms", _TEXTS),
        pa.field("excludes1", _TEXTS),
        pa.field("excludes2", _TEXTS),
        pa.field("code_first", pa.string()),
        pa.field("use_additional", pa.string()),
    ]
)


def _bare(code: str) -> str:
    return code.replace(".", "").upper()


def _read_entries(path: Path) -> Iterator[CodeEntry]:
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    order = [field.name for field in fields(CodeEntry)]
    if set(order) != set(columns):
        raise DataError(f"{path.name} was written by another version")
    for values in zip(*(columns[name] for name in order), strict=True):
        row: list[Any] = [tuple(v) if isinstance(v, list) else v for v in values]
        yield CodeEntry(*row)


def _parse_icd10cm() -> Iterator[CodeEntry]:
    """Read the package's XML.

    It calls some one-category blocks by the category's own name ("B99"): such a block is renamed
    to its range ("B99-B99").
    """
    import simple_icd_10_cm as icd  # parsing takes 4 s and 180 MB: only without a cache

    def block_name(code: str) -> str:
        return code if "-" in code else f"{code}-{code}"

    seen: set[str] = set()
    for name in icd.get_all_codes():
        as_block = icd.is_block(name) and name not in seen
        seen.add(name)
        code, level = name, "subcategory"
        if icd.is_chapter(name):
            level = "chapter"
        elif as_block:
            code, level = block_name(name), "block"
        elif icd.is_category(name):
            level = "category"
        parent = icd.get_parent(name, prioritize_blocks=as_block) or None
        if parent is not None and level == "category":
            parent = block_name(parent)
        yield CodeEntry(
            code=code,
            title=icd.get_description(name, prioritize_blocks=as_block),
            parent=parent,
            level=level,  # type: ignore[arg-type]  # one of LEVELS by construction
            synonyms=tuple(icd.get_inclusion_term(name, prioritize_blocks=as_block)),
            excludes1=tuple(icd.get_excludes1(name, prioritize_blocks=as_block)),
            excludes2=tuple(icd.get_excludes2(name, prioritize_blocks=as_block)),
            code_first=icd.get_code_first(name, prioritize_blocks=as_block),
            use_additional=icd.get_use_additional_code(name, prioritize_blocks=as_block),
        )


def _entries_from_rows(rows: list[dict[str, str | None]], path: Path) -> Iterator[CodeEntry]:
    parents: Mapping[str, str] = {
        (row["code"] or "").strip(): (row.get("parent") or "").strip() for row in rows
    }
    for number, row in enumerate(rows, start=2):
        code, title = (row["code"] or "").strip(), (row["title"] or "").strip()
        if not code or not title:
            raise DataError(f"{path} line {number} needs a code and a title")
        depth, above, seen = 0, parents[code], {code}
        while above:
            if above in seen:
                raise DataError(f"{path} line {number}: code {code} is its own ancestor")
            seen.add(above)
            depth, above = depth + 1, parents.get(above, "")
        synonyms = tuple(s.strip() for s in (row.get("synonyms") or "").split("|") if s.strip())
        level = LEVELS[min(depth, len(LEVELS) - 1)]
        yield CodeEntry(code, title, parents[code] or None, level, synonyms)


def tree_json(taxonomy: Taxonomy, codes: Iterable[str] | None = None) -> bytes:
    """The tree as Label Studio's Taxonomy tag reads it from `apiUrl`; leaves outside `codes` are
    left out, and so is every branch without a leaf.

    Each shown value is "code title · synonyms", because the tag searches the shown text only.
    """
    wanted = (
        None if codes is None else {c for code in codes for c in (code, *taxonomy.ancestors(code))}
    )

    def node(code: str) -> dict[str, Any]:
        shown = {"value": f"{code} {' · '.join(taxonomy.names(code))}", "alias": code}
        children = [c for c in taxonomy.children(code) if wanted is None or c in wanted]
        return {**shown, "children": [node(c) for c in children]} if children else shown

    roots = [e.code for e in taxonomy if e.parent is None and (wanted is None or e.code in wanted)]
    return json.dumps({"items": [node(root) for root in roots]}, ensure_ascii=False).encode()
