"""The page: reads the files of a run, puts the sections together, writes the HTML."""

import functools
import importlib.resources
import json
from pathlib import Path
from string import Template

from kerastrain.report.answer import answer, headline, metric_table
from kerastrain.report.balance import balance_section
from kerastrain.report.data import data_section
from kerastrain.report.explanation import explanation_figures, weak_section
from kerastrain.report.figures import Figure, figures
from kerastrain.report.files import RunFiles
from kerastrain.report.folds import folds_section
from kerastrain.report.html import escape, section
from kerastrain.report.leaderboard import (
    leaderboard_figures,
    leaderboard_lead,
    leaderboard_table,
)
from kerastrain.report.learning import learning_figures
from kerastrain.report.resources import resource_figures
from kerastrain.report.technical import configuration, environment, events
from kerastrain.store import RunFolder, write_text

__all__ = ["write_report"]

Drawn = tuple[str, str, Figure]  # title, one sentence, figure


def write_report(folder: RunFolder) -> Path:
    """Write `report.html` from the other files of the run; each of them may be missing.

    The page needs no network: plotly.js lies in it once, and a policy in its head
    forbids every request.

    Raises:
        RunError: a file of the run is damaged.
    """
    write_text(folder.report, page(RunFiles.read(folder)))
    return folder.report


def page(files: RunFiles) -> str:
    """The whole page as text."""
    learning, drawn = learning_figures(files), figures(files)
    taken, tried = resource_figures(files), leaderboard_figures(files)
    explained = explanation_figures(files)
    sections = [
        metric_table(files),
        folds_section(files),
        _leaderboard(files, tried),
        _figure_section("quality", "Where it is right and wrong", drawn),
        _figure_section("explanation", "What it goes by", explained),
        weak_section(files),
        _figure_section("learning", "How it learnt", learning),
        balance_section(files),
        events(files),
        data_section(files),
        configuration(files),
        _figure_section("resources", "Speed and resources", taken),
        environment(files),
    ]
    shown = headline(files)
    has_figures = any((learning, drawn, taken, tried, explained))
    script = _script() if has_figures else ""
    return Template(_resource("page.html")).substitute(
        title=escape(f"{files.target}: {shown['title']} {shown['value']}"),
        style=_resource("style.css"),
        navigation=_navigation(sections),
        answer=answer(files),
        sections="".join(sections),
        script=script,
    )


def _leaderboard(files: RunFiles, drawn: list[Drawn]) -> str:
    board = leaderboard_table(files)
    body = board + _cards(drawn) if board else ""
    return section("leaderboard", "Leaderboard", body, lead=leaderboard_lead(files))


def _figure_section(name: str, title: str, drawn: list[Drawn]) -> str:
    return section(name, title, _cards(drawn))


def _cards(drawn: list[Drawn]) -> str:
    cards = "".join(
        _card(*item, span=_span(index, len(drawn))) for index, item in enumerate(drawn)
    )
    return f'<div class="figures">{cards}</div>' if cards else ""


def _span(index: int, total: int) -> int:
    """Sixths of the width of a card, so that no row of cards is left half empty."""
    if total == 1:
        return 6
    num_in_threes = {0: total, 1: max(total - 4, 0), 2: total - 2}[total % 3]
    return 2 if index < num_in_threes else 3


def _card(title: str, said: str, figure: Figure, *, span: int) -> str:
    """A figure with its words; script.js draws what lies in the JSON."""
    extent = {"height": 320, "min_width": 0} | figure.get("size", {})
    data = json.dumps({key: figure[key] for key in ("data", "layout")}, allow_nan=False)
    data = data.replace("<", "\\u003c")  # or "</script>" in a label would end the block
    style = f"height:{extent['height']}px;min-width:{extent['min_width']}px"
    return (
        f'<figure class="card span{span}"><figcaption><b>{escape(title)}</b> '
        f"{escape(said)}</figcaption>"
        f'<div class="scroll"><div class="plot" style="{style}" role="img" '
        f'aria-label="{escape(title)}"></div></div>'
        f'<script type="application/json">{data}</script></figure>'
    )


def _navigation(sections: list[str]) -> str:
    links = ""
    for text in filter(None, sections):
        name = text.split('"', 2)[1]
        title = text.partition("<h2>")[2].partition("</h2>")[0]
        links += f'<a href="#{name}">{title}</a>'
    return links


def _script() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script><script>{_resource('script.js')}</script>"


@functools.cache
def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")
