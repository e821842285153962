"""Does the expected work foretell the simulated work? New cases of a finished phantom run, stage by stage.

    python benchmarks/effort.py RUN...

For every new case of a stage: what `staging.expect` expects before anyone looks, against the seconds that the
simulated annotator took (metrics.json of the run). Prints Spearman's rank correlation over the cases, of the
effort, entropy and disagreement, and the median of expected / simulated effort. The pace comes from the
held-out cases. Rows go to benchmarks/results/effort.csv.
"""

import argparse
from pathlib import Path

import numpy as np
from rows import about, append_rows
from scipy.stats import spearmanr

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import Config
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import load_models
from kidseg_jax.phantom.cohort import make_case
from kidseg_jax.report.records import read_run
from kidseg_jax.staging.expect import expected, look, yardstick
from kidseg_jax.staging.resume import settings_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    rows = []
    for run in given.runs:
        settings = settings_of(run)
        if settings["data"] is not None:
            raise SystemExit(f"{run}: need a run on the embedded phantoms, got {settings['data']}")
        config = settings["config"]
        for stage in read_run(run).stages:
            seconds: dict[str, float] = {}
            for record in stage.labelling:
                seconds[record.case] = seconds.get(record.case, 0.0) + (record.corrected_seconds or 0.0)
            if len(seconds) < 3:
                continue
            models = load_models(run / f"stage_{stage.stage}" / "models.safetensors")

            names = sorted({record.case for record in stage.test})
            held_out = [phantom(config, name) for name in names]
            by = yardstick(models, [(c, kidneys_of(c)) for c in held_out], config.annotator)
            found = []
            for name in sorted(seconds):
                case = phantom(config, name)
                seen = look(models, case.ct, config.annotator)
                score = expected(seen, predict(models, case.ct), False, by)
                found.append((seconds[name], score.effort_s, score.entropy, score.disagreement))
            took, effort, entropy, doubt = np.array(found, float).T
            row = {"run": run.name, "stage": stage.stage, "cases": len(took), "pace": by.pace}
            for name, values in (("effort", effort), ("entropy", entropy), ("disagreement", doubt)):
                row[f"rank_{name}"] = float(spearmanr(took, values)[0])  # pyright: ignore[reportArgumentType]
            row["expected_by_simulated"] = float(np.median(effort / took))
            print(row, flush=True)
            rows.append({**about(), **row})
    append_rows("effort", rows)


def phantom(config: Config, name: str) -> Case:
    """The case of this name in a run's cohort."""
    return make_case(config.cohort, config.seed, int(name[-5:]))


if __name__ == "__main__":
    main()
