import pytest

from simulator.experiments.network_plot import Changes, Groups, Lines


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_changes_are_drawn_per_place_and_setting(tmp_path, ending):
    rows = [
        {"hospital": place, "setting": name, "change": change}
        for place, name, change in (("a", "x", 0.0), ("a", "y", -0.1), ("b", "x", 0.0))
    ]
    Changes(rows).draw(tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").stat().st_size > 1_000


def test_lines_are_drawn_with_the_range_over_the_seeds(tmp_path):
    rows = [
        {"noisy": n, "clean": clean, "seed": seed, "micro_f1": (n + clean + seed) / 1_000}
        for n in (0, 200)
        for clean in (40, 160)
        for seed in (1, 2)
    ]
    Lines(rows, x="noisy", by="clean", label="{} clean EMRs".format).draw(tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    assert drawn.count("40 clean EMRs") and drawn.count("160 clean EMRs")


def test_groups_are_drawn_where_a_seed_lacks_a_place(tmp_path):
    rows = [
        {"policy": policy, "chapter": chapter, "f1": score}
        for policy, chapter, score in (
            ("random", "9", 0.4),
            ("coverage", "9", 0.6),
            ("random", "10", 0.1),
        )
    ]
    Groups(
        rows, by="policy", value="f1", called="F1", place=lambda row: f"ch {row['chapter']}"
    ).draw(tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    assert all(
        drawn.count(word) for word in ("policy: random", "policy: coverage", "ch 9", "ch 10")
    )
