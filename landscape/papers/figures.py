"""A figure or table of a paper: which work it needs, how it is drawn, what it should show."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.errors import UsageError
from landscape.papers.claims import Claim
from landscape.papers.kinds import Sheet
from landscape.papers.scale import Scale
from landscape.results import Result
from landscape.running.trained import Trained
from landscape.running.work import Run, Work, everything

# The papers, by their keys, oldest first. Each is a package with a list FIGURES.
PAPERS = {
    "liu2020": "Liu et al. 2020, On the Loss Landscape of Adversarial Training",
    "sitawarin2021": "Sitawarin et al. 2021, SAT: Improving Adversarial Training via Curriculum-"
    "Based Loss Smoothing",
    "kanai2021": "Kanai et al. 2021, Smoothness Analysis of Loss Functions of Adversarial Training",
    "liu2022": "Liu et al. 2022, The Impact of Hard Instances on Adversarial Training",
    "li2023": "Li & Spratling 2023, Understanding and Combating Robust Overfitting via Input Loss "
    "Landscape Analysis and Regularization",
}


class Found(Mapping[str, Any]):
    """What the work of a plan came to, by the plan's names: a ``Result``, or a ``Trained``."""

    def __init__(self, scale: Scale, content: Mapping[str, Result | Trained]) -> None:
        self.scale, self._content = scale, dict(content)

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def under(self, prefix: str) -> dict[str, Any]:
        """Everything named ``prefix/...``, by the rest of its name, in the plan's order."""
        start = f"{prefix}/"
        return {n.removeprefix(start): v for n, v in self._content.items() if n.startswith(start)}

    def results(self) -> dict[str, Result]:
        """All of it as results, for the file: of runs their history and, if any, their track."""
        found: dict[str, Result] = {}
        for name, value in self._content.items():
            if isinstance(value, Trained):
                found[f"{name}/history"] = value.history
                if value.run.track is not None:
                    found[f"{name}/track"] = value.track
            else:
                found[name] = value
        return found


@dataclass(frozen=True)
class Figure:
    """One figure or table of a paper, as data.

    Attributes:
        name: ``liu2020/fig2``. title: what it shows, in our words.
        plan: of a scale, the work by names of our choice, which name the groups of the HDF5 file;
            several things of one kind as ``eps=0.1/seed0``.
        draw: the picture of what was found. claims: what the paper says that it shows.
        table: of a table, its numbers, which also become a CSV file.
        analogue: what digits scale does otherwise than the paper. needs: what paper scale takes
            beyond its data set.
    """

    name: str
    title: str
    plan: Callable[[Scale], Mapping[str, Work]]
    draw: Callable[[Found], Any]
    claims: Sequence[Claim] = ()
    table: Callable[[Found], Sheet] | None = None
    analogue: str = ""
    needs: str = ""

    @property
    def paper(self) -> str:
        return self.name.partition("/")[0]

    @property
    def short(self) -> str:
        return self.name.partition("/")[2]

    def runs(self, scale: Scale) -> list[Run]:
        """All trainings that it rests on at a scale, each once."""
        return [w for w in everything(self.plan(scale)).values() if isinstance(w, Run)]


def figures(paper: str | None = None) -> dict[str, Figure]:
    """All figures and tables by name, in the order of the papers, or those of one paper."""
    found: dict[str, Figure] = {}
    for key in PAPERS if paper is None else [paper]:
        for figure in importlib.import_module(f"landscape.papers.{key}").FIGURES:
            assert figure.paper == key, figure.name
            assert figure.name not in found, figure.name
            found[figure.name] = figure
    return found


def chosen(names: Sequence[str]) -> list[Figure]:
    """The figures of names such as ``liu2020/fig2``, ``liu2020/all`` and ``all``, each once."""
    known = figures()
    found: dict[str, Figure] = {}
    for name in names:
        paper, _, which = name.partition("/")
        if name == "all":
            found |= known
        elif paper in PAPERS and which == "all":
            found |= {n: f for n, f in known.items() if f.paper == paper}
        elif name in known:
            found[name] = known[name]
        else:
            raise UsageError(_no_figure(name, list(known)))
    return list(found.values())


def _no_figure(name: str, known: Sequence[str]) -> str:
    names = [*known, "all", *(f"{paper}/all" for paper in PAPERS)]
    near = difflib.get_close_matches(name.lower().replace("figure", "fig"), names, n=1, cutoff=0.4)
    hint = f": did you mean '{near[0]}'?" if near else "."
    paper = name.partition("/")[0]
    some = [n for n in known if n.startswith(f"{paper}/")] if paper in PAPERS else list(PAPERS)
    return f"no figure '{name}'{hint} There are {', '.join(some)}; `landscape figure --list`."
