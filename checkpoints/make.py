"""Train the bundled checkpoints again and write their manifest: ``make checkpoints``.

Every row is an ordinary ``landscape train`` of the digits recipe; its command is in the manifest.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from landscape.training import default_config, train

HERE = Path(__file__).parent
RUNS = [(method, seed) for method in ("standard", "pgd") for seed in (0, 1)]


def main() -> None:
    rows = {}
    for method, seed in RUNS:
        name = f"digits-{method}-seed{seed}"
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = train(
                default_config("digits", None, method, seed=seed, device="cpu"), folder
            )
        path = checkpoint.save(HERE / f"{name}.pt", overwrite=True)
        assert path.stat().st_size < 200_000, f"{path} is {path.stat().st_size} bytes"
        rows[name] = {
            "command": f"landscape train {method} --data digits --seed {seed}",
            "method": method,
            "seed": seed,
            "epoch": checkpoint.epoch,
            "metrics": checkpoint.metrics,
            "digest": checkpoint.digest,
            "configuration": checkpoint.method["config"],
        }
        print(name, checkpoint.metrics, flush=True)
    (HERE / "manifest.json").write_text(json.dumps(rows, indent=1) + "\n")


main()
