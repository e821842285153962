"""A run directory as the stage shell leaves it, small and made up, for tests of what reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.events import LabelEvent, content_hash
from kidseg_jax.labelling.ledger import append
from kidseg_jax.report.records import read_run
from kidseg_jax.report.snapshot import write_snapshot

MEANS = {"artery": 55.0, "vein": 68.0, "ureter": 50.0, "parenchyma": 92.0, "rcc": 40.0}
PAIRS = {"manual_cnn": 2.0, "cnn_corrected": 1.9, "manual_corrected": 0.6}


def make_run(path: Path, *, stages: int = 3, gain: float = 6.0, kidneys: int = 10, seed: int = 0) -> Path:
    """Write run.json, ledger.jsonl and metrics.json of each stage; every third test kidney has no RCC."""
    rng = np.random.default_rng(seed)
    base = {name: rng.normal(MEANS[name], 6.0, kidneys) for name in NAMES}
    path.mkdir(parents=True, exist_ok=True)
    info = {
        "config": {
            "preset": "demo",
            "seed": seed,
            "data": None,
            "network": {"widths": [8, 16, 32], "rate": 0.01},
        },
        "versions": {"kidseg_jax": "0.1.0", "jax": "0.10.2"},
        "commit": "0123456",
        "device": "cpu",
    }
    (path / "run.json").write_text(json.dumps(info))
    ledger = []
    for stage in range(1, stages + 1):
        test = [
            dsc_record(kidney, name, (base[name][kidney] + gain * (stage - 1) + rng.normal(0, 2)) / 100)
            for kidney in range(kidneys)
            for name in NAMES
        ]
        labelling, surfaces = [], []
        if stage > 1:
            for kidney in range(6):
                new = {
                    "case": f"case_{stage}{kidney:04d}",
                    "patient": f"new_{stage}_{kidney}",
                    "kidney": f"case_{stage}{kidney:04d}_left",
                }
                labelling += [minutes_record(new, name, rng) for name in NAMES if name != "rcc" or kidney % 2]
                surfaces += [
                    surface_record(new, pair, mean + rng.normal(0, 0.1)) for pair, mean in PAIRS.items()
                ]
                ledger += [label_event(new, name, stage) for name in NAMES]
        metrics = {
            "stage": stage,
            "train_kidneys": 20 * min(stage, 2) + 10 * max(stage - 2, 0),
            "steps": 400,
            "seconds": 60.5,
            "test": test,
            "labelling": labelling,
            "surfaces": surfaces,
        }
        folder = path / f"stage_{stage}"
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(metrics))
    append(path / "ledger.jsonl", ledger)
    return path


def dsc_record(kidney: int, structure: str, dsc: float) -> dict[str, Any]:
    """A test record; kidneys 0 and 1 are one patient's, and so on."""
    case = f"case_{kidney // 2:05d}"
    absent = structure == "rcc" and kidney % 3 == 0
    side = "left" if kidney % 2 else "right"
    return {
        "case": case,
        "patient": case,
        "kidney": f"{case}_{side}",
        "side": side,
        "structure": structure,
        "dsc": None if absent else float(np.clip(dsc, 0, 1)),
        "hd95_mm": None if absent else 3.0,
        "nsd_2mm": None if absent else 0.9,
        "truth_ml": 0.0 if absent else 20.0,
        "predicted_ml": 0.4 if absent else 21.0,
        "volume_error_ml": 0.4 if absent else 1.0,
        "false_positive_ml": 0.4 if absent else 0.0,
    }


def minutes_record(kidney: dict[str, str], structure: str, rng: np.random.Generator) -> dict[str, Any]:
    manual = float(rng.uniform(1000, 2400))
    return {
        **kidney,
        "structure": structure,
        "manual_seconds": manual,
        "corrected_seconds": manual / 2,
        "simulated": True,
        "voxels_added": 12,
        "voxels_removed": 7,
    }


def label_event(kidney: dict[str, str], structure: str, stage: int) -> LabelEvent:
    nothing = content_hash(np.zeros((1, 1, 1), np.uint8))
    return LabelEvent(
        case=kidney["case"],
        structure=structure,
        origin="cnn_corrected",
        stage=stage,
        label=nothing,
        annotator="simulated annotator",
        tool="kidseg_jax",
        simulated=True,
        parent=nothing,
        active_s=60.0,
    )


def add_evidence(path: Path, *, n: int = 48, seed: int = 0) -> None:
    """An snapshot file of every kidney of the last stage: a ball, and labels that miss it here and there."""
    rng = np.random.default_rng(seed)
    last = read_run(path).stages[-1]
    test, new = set(last.test_kidneys), {record.kidney for record in last.surfaces}
    z, y, x = np.indices((n, n, n)) - n / 2
    for kidney in sorted(test | new):
        truth = ball_labels(z, y, x, n, 1.0)
        cnn = ball_labels(z, y - rng.uniform(-2, 2), x, n, rng.uniform(0.85, 1.1))
        ct = Volume(
            (truth * 40 + rng.normal(0, 15, truth.shape)).astype(np.int16),
            Geometry((n, n, n), (1.5, 1.0, 1.0)),
        )
        corrected = np.where(z > 0, truth, cnn).astype(np.uint8) if kidney in new else None
        box = kernels.Box((0, 0, 0), (n, n, n))
        role = "new" if kidney in new else "test"
        write_snapshot(path / f"stage_{last.stage}", kidney, role, ct, box, truth, cnn, corrected)


def ball_labels(z: np.ndarray, y: np.ndarray, x: np.ndarray, n: int, scale: float) -> np.ndarray:
    labels = np.zeros(z.shape, np.uint8)
    labels[(z / 1.4) ** 2 + y**2 + x**2 < (0.28 * n * scale) ** 2] = PARENCHYMA
    labels[(z - 6) ** 2 + (y - 6) ** 2 + (x - 8) ** 2 < (0.12 * n * scale) ** 2] = RCC
    labels[(np.abs(z) < 2) & (np.abs(y) < 2) & (x < 0)] = ARTERY
    return labels


def surface_record(kidney: dict[str, str], pair: str, rms_mm: float) -> dict[str, Any]:
    return {
        **kidney,
        "pair": pair,
        "mode": "area_symmetric",
        "how": "every place of both surfaces, weighted by area",
        "points": 17650,
        "seed": 0,
        "rms_mm": rms_mm,
    }
