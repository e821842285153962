"""The ratios that the kernels must reach, and whether the rows of a run reach them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

ONE, TWO = "kidseg, 1 thread", "kidseg, 2 threads"
COPY, READ, LARGEST_K = "copy of the volume", "one read (max)", "cc3d.largest_k per class"
STATISTICS, PACKAGE, MEDPY, KDTREE = (
    "cc3d label + statistics",
    "surface-distance package",
    "MedPy assd",
    "border + pykdtree",
)
MEMORY_SHARE = 0.3  # of the input, on clean masks, beyond the output


class Floor(NamedTuple):
    """Time of `slower` over time of `faster` must be at least `least`."""

    question: str
    slower: str
    faster: str
    least: float


FLOORS = (
    Floor("label, clean mask", "cc3d", ONE, 4),
    Floor("label, clean multilabel", "cc3d", ONE, 4),
    Floor("label, 0.5 % speckle", "cc3d", ONE, 2),
    Floor("label, 5 % speckle", "cc3d", ONE, 1.2),
    Floor("label, 0.5 % speckle", ONE, TWO, 1.4),
    Floor("label, 5 % speckle", ONE, TWO, 1.4),
    Floor("largest component per class", LARGEST_K, ONE, 80),
    Floor("largest component per class", COPY, ONE, 1 / 1.5),
    Floor("boxes, counts and centroids", STATISTICS, ONE, 80),
    Floor("bounding box", READ, ONE, 1 / 1.5),
    Floor("surface distances [1]", PACKAGE, "kidseg surfel", 15),
    Floor("surface distances [1]", MEDPY, "kidseg border", 5),
    Floor("surface distances [1]", KDTREE, "kidseg border", 2),
    Floor("surface distances [2]", KDTREE, "kidseg border", 2),
)


def verdicts(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each volume and floor: what was reached on the clock and in processor time, and whether it held."""
    spent = {(row["volume"], row["question"], row["task"]): row for row in rows}
    for volume in dict.fromkeys(row["volume"] for row in rows):
        for floor in FLOORS:
            slower = spent.get((volume, floor.question, floor.slower))
            faster = spent.get((volume, floor.question, floor.faster))
            if slower is None or faster is None:
                continue
            reached = slower["wall_ms"] / faster["wall_ms"]
            what = f"{floor.slower} / {floor.faster}"
            yield verdict(
                floor.question, volume, what, floor.least, reached, reached >= floor.least, faster
            ) | {"reached_cpu": round(slower["cpu_ms"] / faster["cpu_ms"], 2)}
    for row in rows:
        if row["task"].startswith("kidseg") and "speckle" not in row["question"]:
            share = row["peak_extra_share_of_input"]
            what = f"{row['task']}: extra memory / input, at most"
            yield verdict(
                row["question"], row["volume"], what, MEMORY_SHARE, share, share <= MEMORY_SHARE, row
            ) | {"reached_cpu": ""}


def verdict(
    question: str, volume: str, what: str, floor: float, reached: float, held: bool, row: dict
) -> dict[str, Any]:
    return {
        "question": question,
        "volume": volume,
        "what": what,
        "floor": round(floor, 3),
        "reached": round(reached, 3),
        "held": "yes" if held else "NO",
        "n": row["n"],
    }
