"""Put the model of a run of the preset `start` into the package, with a card that says what it is.

    python -m kidseg_jax.stage --n 1 --preset start && python benchmarks/ship.py runs/start \\
        --background 1.5 --withheld rcc

--background is added to the fine network's logit of the background: class weights make it lean to structures.
--withheld structures are learned and not told: RCC is told as parenchyma. `stage --start` goes on from their
weights. The weights are kept as float16. The card's figures are of the run's held-out phantoms, before both.
"""

import json
from pathlib import Path
from statistics import mean, median
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from rows import about

from kidseg_jax.atomic import write_text
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.network.models import SHIPPED, Models, load_models, save_models
from kidseg_jax.report.records import read_stage
from kidseg_jax.rundir import RunDirectory

CARD = """# The start model

Two 3-D U-Nets that find kidneys in a CT and segment artery, vein, ureter, parenchyma and RCC. `predict` takes
it where no `--model` is named, `stage --start shipped` begins from it.

**Not for patients' care.** It was trained on drawn phantoms alone and has seen no CT of a patient. What it
says of ureters and vessels of patients was not measured: all it draws is a proposal for a person to correct.
{withheld}

| | |
| --- | --- |
| learned from | {train} kidneys of phantoms, `--cohort varied`, seed {seed}, see `docs/phantoms.md` |
| command | `python -m kidseg_jax.stage --n 1 --preset start` ({minutes:.0f} min of training on two cores) |
| trained | at commit {commit}, put here {date} |
| networks | coarse {coarse}, fine {fine}; weights kept as float16 |
| background | {background:g} added to its logit, chosen on two CTs of patients, see `docs/real_cts.md` |
| hash | `{sha256}` |
| licence | Apache 2.0, as the package |

On the run's {n} held-out phantom kidneys (other patients, the same ranges; some are cut by the image), as
trained, nothing added and nothing withheld:

| structure | kidneys | DSC %, mean | median |
| --- | ---: | ---: | ---: |
{rows}

Kidneys without any overlap (missed): {missed} of {n}. {false}
"""


def leaning(models: Models, background: float, withheld: tuple[str, ...]) -> Models:
    """The same models with more of a lean to the background, and structures that they do not tell."""
    fine: Any = jax.tree.map(jnp.copy, models.fine)
    bias = fine["head"]["bias"]
    bias[...] = bias[...].at[0].add(background)
    return models._replace(fine=fine, withheld=withheld)


def main(run: tyro.conf.Positional[Path], background: float = 0.0, withheld: tuple[str, ...] = ()) -> None:
    """Write model and card.

    Args:
        run: directory of a finished run of phantoms.
        background: what is added to the fine network's logit of the background.
        withheld: structures that it does not know well enough to say.
    """
    directory = RunDirectory(run)
    stage = directory.stages()[-1]
    models, settings, record = (
        load_models(run),
        json.loads(directory.settings.read_text()),
        read_stage(stage.metrics),
    )
    if models.trained_on is None or models.trained_on.cases != "phantoms":
        raise SystemExit(f"ship: need a model of phantoms, got {models.trained_on}")
    sha256 = save_models(SHIPPED, leaning(models, background, withheld), half=True)
    rows = []
    for name in NAMES:
        dsc = [100 * r.dsc for r in record.test if r.structure == name and r.dsc is not None]
        rows.append(f"| {name} | {len(dsc)} | {mean(dsc):.1f} | {median(dsc):.1f} |")
    kidneys = [r for r in record.test if r.structure == "parenchyma"]
    rcc = [r.predicted_ml for r in record.test if r.structure == "rcc" and r.truth_ml == 0]
    card = CARD.format(
        train=record.train_kidneys,
        seed=settings["config"]["seed"],
        minutes=(record.seconds or 0) / 60,
        date=about()["date"],
        commit=settings["commit"][:7],
        coarse="/".join(map(str, models.coarse_net.features)) + f" at {models.coarse_net.spacing_mm:g} mm",
        fine="/".join(map(str, models.fine_net.features)) + f" at {models.fine_net.spacing_mm:g} mm",
        sha256=sha256,
        background=background,
        withheld=f"It does not tell {', '.join(withheld)}: it takes too much else for it."
        if withheld
        else "",
        n=len(kidneys),
        rows="\n".join(rows),
        missed=sum(not r.dsc for r in kidneys),
        false=f"Of {len(rcc)} without a tumour {sum(ml > 0.5 for ml in rcc)} got more than 0.5 ml of one.",
    )
    write_text(SHIPPED.with_name("card.md"), card)
    print(f"{SHIPPED}: {SHIPPED.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
