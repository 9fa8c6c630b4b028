"""Measures the band in which each notebook's training loss should lie, from several seeds.

`python -m minidalle2.teaching.bands NOTEBOOK… [--seeds N]` executes each notebook with N seeds, up
to the last cell that trains. It writes the bands to bands.json beside this file. `LossChart` draws
the band behind the loss of a reader, who can see whether that loss is normal.
"""

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("bands.json")
MARGIN = 0.1  # the share of the value that widens a band on each side, because few seeds are run
STRETCH = 20  # training steps of each value, as many as LossChart averages (SMOOTHING)


@dataclass
class Band:
    """The range of the smoothed loss, one entry for each stretch of STRETCH steps."""

    steps: list[int]  # the last step of each stretch
    low: list[float]
    high: list[float]


def expected_band(name: str) -> Band | None:
    """Returns the band of the training `name`, or None if that training was never measured."""
    bands = json.loads(FILE.read_text()) if FILE.is_file() else {}
    if name not in bands:
        return None
    low, high = bands[name]["low"], bands[name]["high"]
    return Band([STRETCH * (i + 1) for i in range(len(low))], low, high)


def band_of(runs: list[list[float]]) -> dict[str, list[float]]:
    """The minimum and maximum of the smoothed losses of several runs, widened by MARGIN.

    `runs` holds one list of losses for each run. All lists must have the same length.
    """
    columns = list(zip(*runs, strict=True))
    return {
        "low": [float(f"{min(c) - MARGIN * abs(min(c)):.3g}") for c in columns],
        "high": [float(f"{max(c) + MARGIN * abs(max(c)):.3g}") for c in columns],
    }


def measure(notebooks: list[Path], seeds: int) -> None:
    """Executes each notebook with the seeds 1 to `seeds` and writes the bands to FILE.

    Seed 0 is left out, because the committed notebooks show it. Bands of other trainings stay.
    """
    from minidalle2.teaching.execute import run  # imported here, because it needs nbclient

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
    parser.add_argument("notebooks", nargs="+", type=Path, help="notebooks to execute")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (3)")
    arguments = parser.parse_args()
    measure(arguments.notebooks, arguments.seeds)


if __name__ == "__main__":
    main()
