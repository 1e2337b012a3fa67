"""Summary of a packed data set and its findings, in words."""

from __future__ import annotations

from typing import Any

from anowild.data.dataset.format import PackedSet
from anowild.data.readers.base import passed_over_text
from anowild.libraries import library

#: Number of images named for each finding; the manifest lists all.
NAMED = 5


def quality_summary(packed: PackedSet, most: int = NAMED) -> list[str]:
    """Describe the images of a data set, and each finding with its count and its first images.

    Args:
        packed: the data set.
        most: number of images named for each finding.

    Returns:
        One line of text each.
    """
    found = packed.description["findings"]
    p = packed.preprocess
    counts = " and ".join(f"{n} for {split}" for split, n in packed.counts.items())
    lines = [
        f"{len(packed)} images ({counts}) of {p.resolution}x{p.resolution}, "
        f"{p.channels} channel(s), {p.bits} bits; {packed.description['left_out']} left out"
    ]
    listing = _Listing(packed, most)
    for reason, count in found["left_out"].items():
        lines.append(f"left out, {reason}: {count}{listing.where('left_out', reason)}")
    if packed.passed_over:
        lines.append(passed_over_text(packed.passed_over, most))
    if found["equal"]:
        lines.append(f"equal to another image: {found['equal']}{listing.pairs('duplicate_of')}")
    if found["near_equal"]:
        pairs = listing.pairs("near_duplicate_of")
        lines.append(f"hardly different from another image: {found['near_equal']}{pairs}")
    leaks = found["leaks"]
    if leaks["equal"] or leaks["near"]:
        done = {"drop": "left out of the test split", "keep": "kept"}[leaks["done"]]
        lines.append(
            f"test images that are in training too: {leaks['equal']}, or nearly: {leaks['near']}; "
            f"they were {done}"
        )
    for kind, count in found["images"].items():
        lines.append(f"{kind}: {count}{listing.where('finding', kind)}")
    if len(found["modes"]) > 1:
        listed = ", ".join(f"{_mode(mode)}: {count}" for mode, count in found["modes"].items())
        lines.append(f"mixed modes ({listed})")
    if found["different_sizes"] > 1:
        listed = ", ".join(
            f"{size}: {count}" for size, count in list(found["sizes"].items())[:most]
        )
        lines.append(f"{found['different_sizes']} different sizes (height x width, {listed}, ...)")
    return lines


def _mode(mode: str) -> str:
    dtype, channels = mode.split(" x ")
    return f"{dtype}, {channels} channel(s)"


class _Listing:
    """Names of the first images of each finding."""

    def __init__(self, packed: PackedSet, most: int) -> None:
        self.packed, self.most = packed, most
        self.compute = library("pyarrow.compute", packed.path)

    def where(self, column: str, value: str) -> str:
        """List images whose ``column`` begins with ``value``."""
        found = self.compute.starts_with(self.compute.field(column), value)
        table = self.packed.manifest(["name", column]).filter(found)
        return self._text(table["name"].slice(0, self.most).to_pylist(), len(table))

    def pairs(self, column: str) -> str:
        table = self.packed.manifest(["name", column])
        names: Any = table["name"]
        with_other = table.filter(self.compute.field(column).is_valid())
        first = with_other.slice(0, self.most).to_pylist()
        pairs = [f"{row['name']} = {names[row[column]].as_py()}" for row in first]
        return self._text(pairs, len(with_other))

    def _text(self, listed: list[str], count: int) -> str:
        if not listed:
            return ""
        more = ", ..." if count > len(listed) else ""
        return f" ({', '.join(ascii(text)[1:-1] for text in listed)}{more})"
