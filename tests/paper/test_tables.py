"""Every row of the appendix, but for the misprints that its own totals show."""

from __future__ import annotations

import pytest

from anowild.paper.tables import MISPRINTS, Table, tables
from anowild.presets import preset
from tests.paper import appendix

Cells = tuple[str, str, str, str]

TOTALS = {
    ("paper-kth-cells", "generator"): 22_485_765,
    ("paper-kth-cells", "discriminator"): 22_493_441,
    ("paper-kth-cells", "encoder"): 22_492_928,
    ("paper-cifar10", "generator"): 20_719_628,
    ("paper-cifar10", "discriminator"): 20_726_785,
    ("paper-cifar10", "encoder"): 20_726_272,
}

# What the CIFAR-10 generator's table has, and what it has to be for its total to add up.
MISPRINTED = {
    ("ToRGB lod4", "513", "(?, 1, 4, 4)", "(1, 1, 512, 1)"): (
        "ToRGB lod3", "1539", "(?, 3, 4, 4)", "(1, 1, 512, 3)"),
    ("ToRGB lod3", "513", "(?, 1, 8, 8)", "(1, 1, 512, 1)"): (
        "ToRGB lod2", "1539", "(?, 3, 8, 8)", "(1, 1, 512, 3)"),
    ("ToRGB lod2", "513", "(?, 1, 16, 16)", "(1, 1, 512, 1)"): (
        "ToRGB lod1", "1539", "(?, 3, 16, 16)", "(1, 1, 512, 3)"),
    ("Upscale2D", "-", "(?, 1, 64, 64)", "-"): ("Upscale2D", "-", "(?, 3, 32, 32)", "-"),
    ("Grow lod3", "-", "(?, 1, 8, 8)", "-"): ("Grow lod2", "-", "(?, 3, 8, 8)", "-"),
    ("Grow lod2", "-", "(?, 1, 16, 16)", "-"): ("Grow lod1", "-", "(?, 3, 16, 16)", "-"),
}  # fmt: skip


def ours(preset_name: str) -> dict[str, Table]:
    s = preset(preset_name).settings()
    assert s.resolution is not None
    assert s.channels is not None
    return tables(s.resolution, s.channels, s.fmap_base, s.fmap_max, s.latent_size)


def printed(name: str) -> list[Cells]:
    """The rows of a table as the appendix has them; its last is the total."""
    lines = getattr(appendix, name).strip().splitlines()
    rows = []
    for line in lines[:-1]:
        name, params, output, weight = (cell.strip() for cell in line.split("|"))
        rows.append((name, params or "-", output, weight))
    return rows


@pytest.mark.parametrize(("preset_name", "network"), TOTALS)
def test_totals_and_rows_are_the_appendix_s(preset_name: str, network: str) -> None:
    table = ours(preset_name)[network]
    assert table.total == TOTALS[preset_name, network]
    assert sum(row.params or 0 for row in table.rows) == table.total

    rows = [
        (row.name, str(row.params or "-"), row.output_shape, row.weight_shape or "-")
        for row in table.rows
    ]
    kind = "CIFAR10" if preset_name == "paper-cifar10" else "KTH_CELLS"
    expected = printed(f"{kind}_{network.upper()}")
    if (kind, network) == ("CIFAR10", "generator"):
        assert sum(row in MISPRINTED for row in expected) == len(MISPRINTED)
        expected = [MISPRINTED.get(row, row) for row in expected]
    assert rows == expected


def test_misprints_are_named_for_both_presets() -> None:
    assert any("1,539" in line for line in MISPRINTS["paper-cifar10"])
    assert all(any("Upscale2D" in line for line in lines) for lines in MISPRINTS.values())
