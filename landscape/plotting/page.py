"""One self-contained HTML page with surfaces to rotate; it needs no network to be opened."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import UsageError
from landscape.files import check_writable, write_atomic
from landscape.plotting.surface import scale

_ABOUT = (
    "Drag to rotate, scroll to zoom, hover for values. Height and colour are the loss, on one "
    "scale for all; the diamond is the model."
)


def check_page(path: str | Path, *, overwrite: bool = False) -> None:
    """Fail before long work rather than after it: without plotly, or where ``path`` is taken."""
    if importlib.util.find_spec("plotly") is None:
        raise UsageError("--html needs plotly: pip install 'landscape-diagnostics[html]'.")
    check_writable(path, overwrite=overwrite)


def save_page(
    surfaces: Sequence[Any], labels: Sequence[str], path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write the page of one or several planes. Needs plotly, the extra ``html``."""
    check_page(path, overwrite=overwrite)
    from plotly import offline

    scripts = [offline.get_plotlyjs(), script(rotating(surfaces, labels), "scene")]
    record = surfaces[0].provenance
    title = html.escape(", ".join(labels) or "surface")
    about = (
        f"Directions: {surfaces[0].directions}, seed {record.seed}; landscape "
        f"{record.versions.get('landscape')}, {record.created}."
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">'
        f"<title>{title}: loss surface</title>"
        "<style>body{font:15px sans-serif;margin:0 auto;padding:1em 1.5em;max-width:1400px;"
        "color:#222}</style></head><body>"
        f'<h1>{title}</h1><p>{_ABOUT}</p><div id="scene"></div><p>{html.escape(about)}</p>'
        + "".join(f"<script>{text}</script>" for text in scripts)
        + "</body></html>\n"
    )
    return write_atomic(path, page.encode(errors="replace"), overwrite=overwrite)


def script(figure: Any, place: str) -> str:
    """The script that draws plotly's figure into the element with the id ``place``."""
    # "</script>" inside a string would end the script.
    content = figure.to_json().replace("<", "\\u003c")
    return (
        f"{{const f = {content};"
        f'Plotly.newPlot("{place}", f.data, f.layout, {{responsive: true, displaylogo: false}});}}'
    )


def policy(scripts: Sequence[str]) -> str:
    """A page's Content-Security-Policy: nothing from elsewhere; of scripts these, by digest."""
    rules = ["default-src 'none'", "img-src data: blob:", "style-src 'unsafe-inline'"]
    if scripts:
        digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
        ours = " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)
        # plotly compiles the shaders' wrappers of its 3D scenes as it runs.
        rules.append(f"script-src {ours} 'unsafe-eval'")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def rotating(surfaces: Sequence[Any], labels: Sequence[str], norm: Any = None) -> Any:
    """plotly's figure of one or several planes. Needs plotly, the extra ``html``.

    ``norm``: the scale, by default that of these surfaces.
    """
    from matplotlib.colors import LogNorm
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    if any(len(s.y) < 2 or s.draws for s in surfaces):
        raise UsageError("a page to rotate needs surfaces of two dimensions: --grid 41x41.")
    norm = norm or scale(surfaces)
    log = isinstance(norm, LogNorm)
    low, high = (np.log10(norm.vmin), np.log10(norm.vmax)) if log else (norm.vmin, norm.vmax)
    n = len(surfaces)
    figure = make_subplots(
        1,
        n,
        specs=[[{"type": "surface"}] * n],
        subplot_titles=[html.escape(label) for label in labels],  # plotly reads tags
        horizontal_spacing=0.02,
    )
    ticks = np.linspace(low, high, 6)
    text = [f"{10**t:.2g}" if log else f"{t:.3g}" for t in ticks]
    for i, surface in enumerate(surfaces):
        height = np.log10(surface.loss) if log else surface.loss
        figure.add_trace(
            graph_objects.Surface(
                x=surface.x,
                y=surface.y,
                z=height,
                hovertext=_hover(surface),
                hoverinfo="text",
                colorscale="Viridis",
                cmin=low,
                cmax=high,
                showscale=i == n - 1,
                colorbar={
                    "title": html.escape(surface.loss_label),
                    "tickvals": ticks,
                    "ticktext": text,
                },
            ),
            row=1,
            col=i + 1,
        )
        centre = np.log10(surface.centre_loss) if log else surface.centre_loss
        if np.isfinite(centre):
            figure.add_trace(
                graph_objects.Scatter3d(
                    x=[0],
                    y=[0],
                    z=[centre],
                    mode="markers",
                    marker={"size": 4, "symbol": "diamond", "color": "black"},
                    name="model",
                    showlegend=False,
                    hovertemplate=f"model: loss {surface.centre_loss:.4g}<extra></extra>",
                ),
                row=1,
                col=i + 1,
            )
    figure.update_scenes(
        xaxis_title="direction 1",
        yaxis_title="direction 2",
        zaxis={"title": "", "tickvals": ticks, "ticktext": text, "range": [low, high]},
        aspectmode="cube",
        camera_eye={"x": 1.5, "y": 1.5, "z": 1.0},  # so that tick labels are not cut off
    )
    figure.update_layout(height=650, margin={"l": 0, "r": 0, "t": 40, "b": 0})
    return figure


def _hover(surface: Any) -> np.ndarray:
    """Written out, since plotly's templates of surfaces know z alone, which may be a logarithm.

    An array of objects: inner lists would become strings.
    """
    text = np.empty(surface.loss.shape, dtype=object)
    for (j, i), loss in np.ndenumerate(surface.loss):
        text[j, i] = f"({surface.x[i]:.3g}, {surface.y[j]:.3g}): loss {loss:.4g}"
    return text
