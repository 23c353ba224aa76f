"""Knowledge pack: what each disease family looks like in a record, loaded and checked as a whole.

`pack` says what it holds, `pack_reader` how one file is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from label_config.errors import DataError
from label_config.taxonomy import Taxonomy
from simulator.pack import VITALS as VITALS
from simulator.pack import Family as Family
from simulator.pack import Leaf as Leaf
from simulator.pack import Pack as Pack
from simulator.pack import Signs as Signs
from simulator.pack_reader import read_families
from simulator.wording import load_wording

FOLDER = Path(__file__).parent / "knowledge"
WORDING_FILE = "_wording.yaml"
TITLES_FILE = "titles.csv"
"""The codes' titles in the pack's language; without it they are those of ICD-10-CM."""


def load_pack(
    language: str = "en",
    *,
    wards: Iterable[str] | None = None,
    taxonomy: Taxonomy | None = None,
    folder: Path = FOLDER,
) -> Pack:
    """Read and check `folder/language/*.yaml`, or only the files of the `wards` named.

    The project's own packs are read once and shared. Raises DataError that names every problem
    found, one a line.
    """
    if wards is None and taxonomy is None and folder == FOLDER:
        return _own(language)
    return _loaded(language, wards, taxonomy, folder)


@lru_cache(maxsize=2)
def _own(language: str) -> Pack:
    return _loaded(language, None, None, FOLDER)


def _loaded(
    language: str, wards: Iterable[str] | None, taxonomy: Taxonomy | None, folder: Path
) -> Pack:
    titles = folder / language / TITLES_FILE
    if taxonomy is None:
        taxonomy = Taxonomy.from_csv(titles) if titles.is_file() else Taxonomy.icd10cm()
    files = sorted(p for p in (folder / language).glob("*.yaml") if p.name != WORDING_FILE)
    if wards is not None:
        chosen = set(wards)
        files = [path for path in files if path.stem in chosen]
    if not files:
        raise DataError(f"no knowledge pack for language {language!r} in {folder}")
    wording = load_wording(folder / language / WORDING_FILE)
    families: list[Family] = []
    problems: list[str] = []
    for path in files:
        found, troubles = read_families(path, taxonomy)
        families += found
        problems += troubles
    problems.extend(problems_of(families))
    if problems:
        raise DataError("the knowledge pack needs mending:\n" + "\n".join(problems))
    return Pack(language, tuple(families), wording, taxonomy)


def problems_of(families: Iterable[Family]) -> list[str]:
    """What no single family can see and no hospital can live with: repeated families or codes."""
    seen: dict[str, str] = {}
    problems: list[str] = []
    for family in families:
        for key in (f"family {family.id}", *(f"code {leaf.code}" for leaf in family.leaves)):
            if key in seen:
                problems.append(f"{key} stands under {seen[key]} and again under {family.id}")
            seen[key] = family.id
    return problems


def blemishes_of(families: Iterable[Family], taxonomy: Taxonomy) -> list[str]:
    """Names that two leaves share, vague names that reach no leaf, links to unknown families.

    None of them breaks a hospital: shared names are ambiguous, the others have no effect.
    """
    families = list(families)
    ids = {family.id for family in families}
    owner: dict[str, str] = {}
    found: list[str] = []
    for family in families:
        for leaf in family.leaves:
            texts = sorted({t.lower() for name in leaf.names for t in (*name.a, *name.b)})
            found += [
                f"{family.id}: {leaf.code} and {owner[text]} share a name: {text}"
                for text in texts
                if owner.setdefault(text, leaf.code) != leaf.code
            ]
        above = {a for leaf in family.leaves for a in taxonomy.ancestors(leaf.code)}
        found += [
            f"{family.id}: vague {c} is above no leaf" for c in family.vague if c not in above
        ]
        needs = {other for leaf in family.leaves for other in leaf.needs}
        links = sorted({*family.odds, *family.never_with, *needs} - ids)
        found += [f"{family.id}: names the unknown family {other!r}" for other in links]
    return found


def main() -> None:
    """Check one language's pack: `python -m simulator.knowledge en`; exit code 1 with problems."""
    try:
        pack = load_pack(sys.argv[1] if len(sys.argv) > 1 else "en")
    except DataError as error:
        sys.exit(str(error))
    blemishes = blemishes_of(pack.families, pack.taxonomy)
    for line in blemishes:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"{len(pack.families)} families, {len(pack.codes)} codes\n")
    sys.exit(1 if blemishes else 0)


if __name__ == "__main__":
    main()
