"""Does the expected work foretell the simulated work? New cases of a finished phantom run, stage by stage.

    python benchmarks/effort.py RUN...

For every new case of a stage: what `staging.expect` expects before anyone looks, against the seconds that the
simulated annotator took (metrics.json of the run). Prints Spearman's rank correlation over the cases, of the
effort, entropy and disagreement, and the median of expected / simulated effort. The pace comes from the
held-out cases. Rows go to benchmarks/results/effort.csv.
"""

from pathlib import Path

import numpy as np
import tyro
from held_out import cases_of
from rows import about, append_rows
from scipy.stats import spearmanr

from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import load_models
from kidseg_jax.report.records import read_run
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.expect import expected, look, yardstick
from kidseg_jax.staging.resume import settings_of


def main(first: tyro.conf.Positional[Path], *others: Path) -> None:
    rows = []
    for run in (first, *others):
        annotator = settings_of(run)["config"].annotator
        for stage in read_run(run).stages:
            seconds: dict[str, float] = {}
            for record in stage.labelling:
                seconds[record.case] = seconds.get(record.case, 0.0) + (record.corrected_seconds or 0.0)
            if len(seconds) < 3:
                continue
            models = load_models(RunDirectory(run).stage(stage.stage).models)
            held_out = cases_of(run, {record.case for record in stage.test})
            by = yardstick(models, [(c, kidneys_of(c)) for c in held_out], annotator)
            found = []
            for case in cases_of(run, set(seconds)):
                seen = look(models, case.ct, annotator)
                score = expected(seen, predict(models, case.ct), False, by)
                found.append((seconds[case.name], score.effort_s, score.entropy, score.disagreement))
            took, effort, entropy, doubt = np.array(found, float).T
            row = {"run": run.name, "stage": stage.stage, "cases": len(took), "pace": by.pace}
            for name, values in (("effort", effort), ("entropy", entropy), ("disagreement", doubt)):
                row[f"rank_{name}"] = float(spearmanr(took, values)[0])  # pyright: ignore[reportArgumentType]
            row["expected_by_simulated"] = float(np.median(effort / took))
            print(row, flush=True)
            rows.append({**about(), **row})
    append_rows("effort", rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
