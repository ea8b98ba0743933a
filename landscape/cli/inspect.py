from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.option("--key", help="Which weights of a file with several: state_dict_ema.")
@click.option(
    "--trust-checkpoint", is_flag=True, help="Load Python objects too, which can run code."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.verbosity
def inspect(checkpoint: str, **given: Any) -> None:
    """Say what a checkpoint file is, what is in it and which architectures it fits.

    Nothing in the file is run. For one of another project it prints the options with which every
    other command takes it.
    """
    from pathlib import Path

    from landscape import checkpoints
    from landscape.cli.output import Say

    say = Say(**given)
    found, unwrapped = checkpoints.load_with_steps(
        checkpoint, trust=given["trust_checkpoint"], key=given["key"]
    )
    tensors = found.state_dict
    rows = [
        ["weights", f"{len(tensors)} entries, {_numbers(tensors):,} numbers, {_types(tensors)}"],
        ["digest", found.digest],
    ]
    content: dict[str, Any] = {"digest": found.digest, "entries": len(tensors)}
    if unwrapped is None:
        rows[:0] = [["made by", "landscape"], *_native(found)]
        content |= {"native": True, "model": found.model, "data": found.data}
        content |= {"metrics": found.metrics, "epoch": found.epoch, "seed": found.seed}
        say.table(Path(checkpoint).name, ["", ""], rows)
    else:
        rows[:0] = [["made by", "another project"], ["unwrapped", "; ".join(unwrapped.steps)]]
        if unwrapped.others:
            rows.append(["other weights", f"{', '.join(unwrapped.others)}: --key NAME"])
        rows += [[f"beside: {name}", str(value)] for name, value in unwrapped.beside.items()]
        say.table(Path(checkpoint).name, ["", ""], rows)
        content |= {"native": False, "steps": list(unwrapped.steps)}
        content["others"] = list(unwrapped.others)
        content["matches"] = _foreign(say, checkpoint, tensors)
    say.json(content)


def _native(found: Any) -> list[list[str]]:
    from landscape.models import ModelSpec

    method = found.method.get("name", "unknown")
    data = found.data["name"] if found.data else "unknown data"
    metrics = ", ".join(f"{n.replace('_', ' ')} {v:.4f}" for n, v in found.metrics.items())
    network, inside = "not described", "unknown"
    if found.model is not None:
        spec = ModelSpec.from_dict(found.model, trust=True)  # described, not built
        network = f"{spec.name}, inputs {spec.in_shape}, {spec.num_classes} classes"
        inside = "none"
        if spec.normalize is not None:
            mean, std = map(list, spec.normalize)
            inside = f"mean {mean}, std {std}"
    return [
        ["network", network],
        ["normalisation", inside],
        ["trained", f"{method} on {data}, seed {found.seed}, epoch {found.epoch}"],
        ["metrics", metrics or "none"],
    ]


def _foreign(say: Any, path: str, tensors: Any) -> list[dict[str, Any]]:
    from landscape.models.matching import matches

    near = matches(tensors)
    rows, listed = [], []
    for match in near:
        spec = match.spec
        what = "fits" if match.fits else _lacks(match)
        rows.append([spec.name, "×".join(map(str, spec.in_shape)), what, "; ".join(match.steps)])
        listed.append(
            {
                "model": spec.name,
                "fits": match.fits,
                "missing": list(match.missing),
                "extra": list(match.extra),
                "other_shapes": list(match.shapes),
                "steps": list(match.steps),
            }
        )
    say.table("\narchitectures of ours", ["--model", "inputs", "", "renamed"], rows)
    if not near or not near[0].fits:
        say.remark(
            "none of ours fits: give your own, --model package.module:factory, or --model "
            "torchvision:NAME."
        )
    elif not say.as_json:
        first = near[0].spec
        own = "" if first.normalize is not None else " [--normalize MEAN:STD]"
        print(f"\nfor example: landscape evaluate {path} --model {first.name} --data NAME{own}")
        if len(near) > 1:
            print("more than one fits by names and shapes: the clean accuracy tells which is right")
    return listed


def _lacks(match: Any) -> str:
    parts = [
        f"{len(names)} {what} ({names[0]})"
        for names, what in (
            (match.missing, "missing"),
            (match.extra, "not in the network"),
            (match.shapes, "of another shape"),
        )
        if names
    ]
    return ", ".join(parts)


def _numbers(tensors: Any) -> int:
    from landscape.foreign import size

    return size(tensors)


def _types(tensors: Any) -> str:
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()})
    return ", ".join(kinds)
