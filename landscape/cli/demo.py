from __future__ import annotations

from typing import Any

import click

from landscape.cli import options

STANDARD, ADVERSARIAL = "digits-standard-seed0", "digits-pgd-seed0"


@click.command()
@click.option("--out", type=click.Path(), default="landscape-demo", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo's files.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.verbosity
def demo(**given: Any) -> int:
    """Spectrum, trace and surface of a standard and an adversarially trained network.

    Runs offline on bundled checkpoints, on the training images of scikit-learn's digits.
    """
    from pathlib import Path

    import landscape as ls
    from landscape import checkpoints, data, models
    from landscape.attacks import attack
    from landscape.cli.output import Say, number, percent
    from landscape.files import check_writable
    from landscape.plotting import picture
    from landscape.plotting.style import save_figure

    say = Say(**given)
    out = Path(given["out"])
    for name in ("results.h5", "spectrum.png", "surface.png"):
        check_writable(out / name, overwrite=given["overwrite"])
    paths = checkpoints.bundled()
    names = {"standard": STANDARD, "PGD": ADVERSARIAL}
    train, test = data.load("digits", "train"), data.load("digits", "test")
    found: dict[str, ls.Result] = {}
    attacked = {"pgd-20": attack("pgd-20", eps=0.1)}
    for label, name in names.items():
        checkpoint = checkpoints.load(paths[name])
        assert checkpoint.model is not None
        model = checkpoint.into(models.ModelSpec.from_dict(checkpoint.model).build(seed=0))
        say.remark(f"measuring {name} …")
        objective = ls.Objective(model, train, batch_size=len(train))
        found[f"{label}/evaluation"] = ls.evaluate(ls.Objective(model, test), attacked)
        with say.progress("eigenvalues converged") as progress:
            found[f"{label}/spectrum"] = ls.spectrum(objective, top=20, progress=progress)
        with say.progress("probes") as progress:
            found[f"{label}/trace"] = ls.trace(objective, samples=100, progress=progress)
        with say.progress("grid points") as progress:
            axis = ls.Axis(-1, 1, 31)
            found[f"{label}/surface"] = ls.surface(objective, x=axis, y=axis, progress=progress)

    def get(label: str, kind: str) -> Any:
        return found[f"{label}/{kind}"]

    rows = []
    for i, kind in enumerate(["clean", "PGD-20, ε = 0.1"]):
        cells = [
            percent(e.accuracy[i], e.accuracy_low[i], e.accuracy_high[i])
            for e in (get(label, "evaluation") for label in names)
        ]
        rows.append([f"test accuracy %, {kind}", *cells])
    for i in (0, 1, 4, 19):
        spectra = [get(label, "spectrum") for label in names]
        cells = [f"{number(s.eigenvalues[i])} ({s.residuals[i]:.0e})" for s in spectra]
        rows.append([f"Hessian eigenvalue {i + 1} (residual)", *cells])
    rows.append(["Hessian trace ± s.e.", *[str(get(label, "trace").trace) for label in names]])
    say.table(
        "digits, clean loss on the training split",
        ["quantity", *[f"{label} training" for label in names]],
        rows,
    )
    say.json({key: result.to_dict() for key, result in found.items()})
    written = [ls.save_all(out / "results.h5", found, overwrite=given["overwrite"])]
    for kind in ("spectrum", "surface"):
        figure = picture([get(label, kind) for label in names], [f"{n} training" for n in names])
        written += save_figure(figure, out / kind, formats=("png",), overwrite=given["overwrite"])
    say.files(written)
    if not given["as_json"]:
        print(
            "\nTry next:\n"
            f"  landscape spectrum {paths[ADVERSARIAL]} --top 20 --attack pgd-10\n"
            f"  landscape surface {paths[ADVERSARIAL]} --directions random --attack pgd-10 "
            "--grid 21x21\n"
            "  landscape train pgd --data digits --eps 0.1 --seed 2"
        )
    trustworthy = all(get(label, "spectrum").trustworthy for label in names)
    return 0 if trustworthy else 3
