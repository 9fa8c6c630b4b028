"""Where the loss of each notebook's training should be, from several seeds: "is my loss normal?"

`python -m minidalle2.teaching.bands NOTEBOOK… [--seeds N]` executes the notebooks at the reader's
size, as far as their training, with N other seeds, and writes bands.json beside this file.
"""

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("bands.json")
MARGIN = 0.1  # of the values, added on both sides: three seeds are few
STRETCH = 20  # steps a value stands for, as LossChart smooths


@dataclass
class Band:
    steps: list[int]  # the end of each stretch
    low: list[float]
    high: list[float]


def expected_band(name: str) -> Band | None:
    """None for a training that was never measured."""
    bands = json.loads(FILE.read_text()) if FILE.is_file() else {}
    if name not in bands:
        return None
    low, high = bands[name]["low"], bands[name]["high"]
    return Band([STRETCH * (i + 1) for i in range(len(low))], low, high)


def band_of(runs: list[list[float]]) -> dict[str, list[float]]:
    """Least and largest of several runs' smoothed losses, a little widened."""
    columns = list(zip(*runs, strict=True))
    return {
        "low": [float(f"{min(c) - MARGIN * abs(min(c)):.3g}") for c in columns],
        "high": [float(f"{max(c) + MARGIN * abs(max(c)):.3g}") for c in columns],
    }


def measure(notebooks: list[Path], seeds: int) -> None:
    """Seeds 1 to `seeds`; 0 is what the committed notebooks show, so it is not among them."""
    from minidalle2.teaching.execute import run  # needs nbclient, which charts do not

    with tempfile.TemporaryDirectory() as folder:
        for notebook in notebooks:
            for seed in range(1, seeds + 1):
                print(notebook.name, "seed", seed, flush=True)
                os.environ.update(MINIDALLE2_SEED=str(seed), MINIDALLE2_RECORD=folder)
                run(notebook, until="with LossChart(")
        bands = json.loads(FILE.read_text()) if FILE.is_file() else {}
        for record in sorted(Path(folder).glob("*.jsonl")):
            runs = [json.loads(line) for line in record.read_text().splitlines()]
            bands[record.stem] = band_of(runs)
    FILE.write_text(json.dumps(bands, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    measure(arguments.notebooks, arguments.seeds)


if __name__ == "__main__":
    main()
