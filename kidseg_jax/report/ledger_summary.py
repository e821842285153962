"""The ledger in a few lines of HTML: how many labels of which origin, whose, and whether the chain holds."""

import html
from collections import Counter
from pathlib import Path

from kidseg_jax.labelling.events import LabelEvent
from kidseg_jax.labelling.ledger import read_ledger


def _who(event: LabelEvent) -> str:
    told = "simulated" in event.annotator or not event.simulated
    return event.annotator if told else f"{event.annotator}, simulated"


def ledger_html(path: Path) -> str:
    """A table of labels by stage, origin and annotator, and the head of the chain; a broken chain is said."""
    if not path.is_file():
        return "<p class='soft'>This run has no ledger.</p>"
    try:
        chain = read_ledger(path)
    except ValueError as error:
        return f"<p><strong>The ledger does not hold:</strong> {html.escape(str(error))}</p>"
    events = chain.events(LabelEvent)
    seconds: Counter[tuple[int, str, str]] = Counter()
    labels: Counter[tuple[int, str, str]] = Counter()
    cases: dict[tuple[int, str, str], set[str]] = {}
    for event in events:
        key = (event.stage, event.origin, _who(event))
        labels[key] += 1
        seconds[key] += round(event.active_s or 0)
        cases.setdefault(key, set()).add(event.case)
    rows = "".join(
        f"<tr><th scope='row'>{stage}</th><td>{html.escape(origin)}</td><td>{html.escape(who)}</td>"
        f"<td>{len(cases[stage, origin, who])}</td><td>{labels[stage, origin, who]}</td>"
        f"<td>{seconds[stage, origin, who] / 60:.0f}{' simulated' * ('simulated' in who)}</td></tr>"
        for stage, origin, who in sorted(labels)
    )
    names = ("stage", "origin", "annotator", "cases", "labels", "minutes")
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    torn = f" The last line is torn: {html.escape(chain.torn)}." if chain.torn else ""
    return (
        f"<div class='table'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p class='soft'>{len(chain.lines)} lines, every hash holds; head "
        f"{html.escape(chain.head)}.{torn}</p>"
    )
