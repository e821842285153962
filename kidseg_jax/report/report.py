"""What a run directory says, as tables and as one page; it reads files of that directory and nothing else.

stage_K/metrics.json: see `records`; stage_K/evidence/KIDNEY.npz, the CT and label maps of one region: see
`snapshot`. run.json is shown as it is, ledger.jsonl in a few lines; a missing file is said to be missing.
"""

import importlib.util
import json
from pathlib import Path

from kidseg_jax.atomic import write_text, written_whole
from kidseg_jax.evaluation.table import Table, to_csv, to_markdown, to_terminal
from kidseg_jax.report.examples import snapshot_of, worst_surfaces
from kidseg_jax.report.ledger_summary import ledger_html
from kidseg_jax.report.overview import overview
from kidseg_jax.report.page import Drawing, page
from kidseg_jax.report.records import Run, read_run
from kidseg_jax.report.tables import differences_of_setup, run_tables
from kidseg_jax.rundir import RunDirectory


def write_report(path: Path) -> str:
    """Write tables.md, tables.csv, report.html, overview.png and meshes/; returns the tables as text.

    report.html holds everything it needs. meshes/PAIR has the worst kidney of each comparison: its surface
    coloured by signed distance (PLY, GLB), both surfaces for printing (STL), and kidney.json that says which
    it is. Without snapshot files or without Open3D pictures and meshes are left out, and the page says so.
    Raises FileNotFoundError or ValueError as `read_run` does; then nothing is written.
    """
    run = read_run(path)
    files, tables = RunDirectory(path), run_tables(run)
    text = _write_tables(run, tables)
    html = page(run, tables, differences_of_setup(run), _worst(run), ledger_html(files.ledger))
    write_text(files.report, html)
    picture = overview(run)
    if picture is not None:
        with written_whole(files.overview) as temporary:
            temporary.write_bytes(picture)
    return text


def _worst(run: Run) -> dict[str, Drawing]:
    """Per pair: the coloured surface of its worst kidney, also as files, where there is snapshot of it and
    Open3D.
    """
    if importlib.util.find_spec("open3d") is None:
        return {}
    from kidseg_jax.evaluation.mesh_files import write_comparison
    from kidseg_jax.report.scenes import LIMIT_MM, plotly_figure, scene_of, still, surfaces_of

    drawings = {}
    for pair, (stage, kidney, rms_mm) in worst_surfaces(run).items():
        snapshot = snapshot_of(run, stage, kidney)
        surfaces = None if snapshot is None else surfaces_of(snapshot, pair)
        if surfaces is None:
            continue
        first, second = pair.split("_")
        folder = RunDirectory(run.path).meshes(pair)
        files = write_comparison(folder, *surfaces, limit_mm=LIMIT_MM, names=(first, second))
        record = {"kidney": kidney, "stage": stage, "pair": pair, "units": "mm", "frame": "LPS"}
        record |= {"colour_limit_mm": LIMIT_MM, "area_symmetric_rms_mm": rms_mm, "files": files}
        write_text(folder / "kidney.json", json.dumps(record, indent=1) + "\n")
        scene = scene_of(pair, *surfaces)
        caption = f"{kidney}, stage {stage}; RMS {rms_mm:.2f} mm over the area of both surfaces"
        drawings[pair] = Drawing(scene.title, caption, plotly_figure(scene), still(scene))
    return drawings


def _write_tables(run: Run, tables: tuple[Table, ...]) -> str:
    markdown = to_markdown(tables) + "\n### Differences from the paper\n\n"
    markdown += "".join(f"- {sentence}\n" for sentence in differences_of_setup(run))
    files = RunDirectory(run.path)
    write_text(files.tables("md"), markdown)
    write_text(files.tables("csv"), to_csv(tables))
    return to_terminal(tables)
