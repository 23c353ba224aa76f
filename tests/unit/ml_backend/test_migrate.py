"""A project that moves from one code set to another, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import ConfigError, DataError, UnknownCode
from label_config.files import write_json
from label_config.record import Coding, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend import migrate, swap
from ml_backend.code_table import kind_of, move, read_table
from ml_backend.locks import locked
from ml_backend.workspace import ProjectConfig, Workspace

OLD = ("401.9", "410.9", "250.0", "V70", "486")
NEW = ("I10", "I21.9", "I21.4", "E11.9", "486")
TABLE = """old,new
4019,I10
410.9,I219
4109,I21.4
250.0,E11.9
V70,
999,Z99
"""


def tree(name: str, codes: tuple[str, ...]) -> Taxonomy:
    return Taxonomy(name, (CodeEntry(code, code, None, "chapter") for code in codes))


def span(code: str) -> EvidenceSpan:
    return EvidenceSpan(code, "Plan", 0, 4)


@pytest.fixture
def ward(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "ward", ProjectConfig("Ward 7", OLD, taxonomy="old.csv"))
    tree("old", OLD).to_csv(made.folder / "old.csv")
    made.write_noisy(
        [
            Coding("e1", ("401.9", "410.9"), "noisy", (0.9, 0.5)),
            Coding("e3", ("250.0",), "noisy", (0.4,)),
        ]
    )
    made.write_clean(
        [
            Coding("e1", ("410.9", "401.9"), "clean", evidence=(span("410.9"), span("401.9"))),
            Coding("e2", ("250.0", "486", "V70"), "clean", suggested=("250.0", "410.9")),
        ]
    )
    made.write_imported([Coding("e9", ("401.9",), "clean")])
    write_json(made.models_folder / "live.json", {"history": ["v1"]})
    return made


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path / "table.csv"


@pytest.fixture
def new_tree() -> Taxonomy:
    return tree("new", NEW)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "backups" not in path.parts and "lock" not in path.name
        and path.name != ".running"
    }  # fmt: skip


def test_a_plan_says_what_happens_to_every_code_and_writes_nothing(
    ward: Workspace, table: Path, new_tree: Taxonomy
):
    before = contents(ward.folder)
    planned = migrate.plan(ward, table, new_tree)
    assert contents(ward.folder) == before
    assert {m.code: (m.kind, m.new, m.clean_emrs, m.noisy_emrs) for m in planned.moves} == {
        "401.9": ("renamed", ("I10",), 2, 1),
        "410.9": ("split", ("I21.9", "I21.4"), 1, 1),
        "250.0": ("renamed", ("E11.9",), 1, 1),
        "V70": ("removed", (), 1, 0),
    }
    assert planned.config.codes == ("I10", "I21.9", "I21.4", "E11.9", "486")
    assert planned.to_recode == (migrate.ToRecode("e1", "410.9", ("I21.9", "I21.4")),)


def test_codes_highlights_and_suggestions_move_and_what_is_ambiguous_waits_for_a_coder(
    ward: Workspace, table: Path, new_tree: Taxonomy
):
    migrate.apply(ward, migrate.plan(ward, table, new_tree), new_tree)
    assert ward.config.codes == ("I10", "I21.9", "I21.4", "E11.9", "486")
    assert [e.code for e in ward.taxonomy] == list(NEW)
    e1, e2, e9 = ward.read_clean()
    assert (e1.codes, e1.quality, e1.evidence) == (("I10",), "unsure", (span("I10"),))
    assert (e2.codes, e2.quality, e2.suggested) == (("E11.9", "486"), "clean", ("E11.9",))
    assert e9.codes == ("I10",)
    assert [(c.codes, c.confidence) for c in ward.read_noisy()] == [
        (("I10",), (pytest.approx(0.9),)),
        (("E11.9",), (pytest.approx(0.4),)),
    ]
    assert [one.emr_id for one in migrate.still_open(ward)] == ["e1"]
    assert not (ward.models_folder / "live.json").exists(), "a model of old codes serves no more"
    ward.write_clean([Coding("e1", ("I21.4", "I10"), "clean")])
    assert migrate.still_open(ward) == []


def test_an_annotation_made_before_the_migration_is_translated_when_it_is_pulled_again(
    ward: Workspace, table: Path, new_tree: Taxonomy
):
    migrate.apply(ward, migrate.plan(ward, table, new_tree), new_tree)
    old, new = Coding("e5", ("250.0", "410.9"), "clean"), Coding("e6", ("486", "I21.4"), "clean")
    translated = migrate.translated(ward, [old, new])
    assert [(c.codes, c.quality) for c in translated] == [
        (("E11.9",), "unsure"),
        (("486", "I21.4"), "clean"),
    ]


def test_undo_brings_every_file_back(ward: Workspace, table: Path, new_tree: Taxonomy):
    before = contents(ward.folder)
    migrate.apply(ward, migrate.plan(ward, table, new_tree), new_tree)
    assert contents(ward.folder) != before
    migrate.go_back(ward.folder)
    assert contents(ward.folder) == before
    with pytest.raises(DataError, match="no migration to undo"):
        migrate.go_back(ward.folder)


@pytest.mark.parametrize("step", range(1, 12))
def test_a_migration_that_is_cut_short_anywhere_is_whole_or_never_was(
    ward: Workspace, table: Path, new_tree: Taxonomy, monkeypatch: pytest.MonkeyPatch, step: int
):
    planned = migrate.plan(ward, table, new_tree)
    before = contents(ward.folder)
    left = step
    copy = swap.shutil.copyfile

    def killed(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        copy(source, target)

    monkeypatch.setattr(swap.shutil, "copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        migrate.apply(ward, planned, new_tree)
    monkeypatch.undo()
    if (ward.folder / swap.MARK).exists():
        with pytest.raises(ConfigError, match="clinicoco migrate --finish"):
            Workspace(ward.folder)
        assert migrate.go_on(ward.folder)
        assert Workspace(ward.folder).read_clean()[1].codes == ("E11.9", "486")
    else:
        assert contents(ward.folder) == before
        assert not migrate.go_on(ward.folder)
        migrate.apply(ward, planned, new_tree)
    assert Workspace(ward.folder).config.codes == planned.config.codes
    migrate.go_back(ward.folder)
    assert contents(ward.folder) == before


def test_new_codes_that_the_tree_lacks_are_named(ward: Workspace, table: Path):
    with pytest.raises(UnknownCode, match=r"does not hold: I10, I219, I21\.4, E11\.9"):
        migrate.plan(ward, table)


def test_a_code_that_neither_table_nor_tree_knows_waits_for_a_coder(ward: Workspace, table: Path):
    planned = migrate.plan(ward, table, tree("new", NEW[:4]))
    assert [m.kind for m in planned.moves if m.code == "486"] == ["unknown"]
    assert migrate.ToRecode("e2", "486", ()) in planned.to_recode


def test_nothing_moves_while_a_training_runs(ward: Workspace, table: Path, new_tree: Taxonomy):
    planned = migrate.plan(ward, table, new_tree)
    with (
        locked(ward.folder / "jobs" / ".running"),
        pytest.raises(ConfigError, match="a training is running"),
    ):
        migrate.apply(ward, planned, new_tree)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "needs columns old and new"),
        ("old,new\n,I10\n", "line 2 needs an old code"),
        ("old,new\n", "holds no code"),
        ("old,new\nX1,I10\n", "changes no code"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(ward: Workspace, table: Path, text: str, reason: str):
    table.write_text(text)
    with pytest.raises(DataError, match=reason):
        migrate.plan(ward, table)


def test_one_row_may_hold_several_codes(table: Path):
    table.write_text("\ufeffOld, New\nA,B|C\nA,C\n")
    assert read_table(table) == {"A": ("B", "C")}


@given(
    codes=st.lists(st.sampled_from("ABCDEF"), unique=True),
    table=st.dictionaries(
        st.sampled_from("ABCDEF"), st.lists(st.sampled_from("BCDEFXYZ"), unique=True).map(tuple)
    ),
    known=st.sets(st.sampled_from("ABCDEF")),
)
def test_a_moved_coding_holds_each_code_once_and_only_what_is_certain(
    codes: list[str], table: dict[str, tuple[str, ...]], known: set[str]
):
    kinds = {code: kind_of(code, table, code in known) for code in codes}
    sure = tuple(1 / (n + 1) for n in range(len(codes)))
    moved = move(Coding("e1", tuple(codes), "clean", sure), kinds, table)
    certain = {
        (code if kinds[code] == "same" else table[code][0])
        for code in codes
        if kinds[code] in ("same", "renamed")
    }
    assert set(moved.coding.codes) == certain
    assert set(moved.open) == {c for c in codes if kinds[c] in ("split", "unknown")}
    assert (moved.coding.quality == "unsure") == bool(moved.open)


def test_a_plan_of_what_has_changed_since_is_refused_and_nothing_is_lost(
    ward: Workspace, table: Path, new_tree: Taxonomy
):
    planned = migrate.plan(ward, table, new_tree)
    ward.write_clean([*ward.read_pulled(), Coding("e4", ("486",), "clean")])
    before = contents(ward.folder)
    with pytest.raises(ConfigError, match="has changed meanwhile: plan the migration again"):
        migrate.apply(ward, planned, new_tree)
    assert contents(ward.folder) == before
