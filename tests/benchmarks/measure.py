"""One measurement in a process of its own: python -m tests.benchmarks.measure ROW WHO SECONDS SEED.

Prints its numbers as one line of JSON, the last of its output.
"""

import json
import sys
from importlib import import_module

ROWS = {
    "clip": "clip_training",
    "prior": "prior",
    "decoder": "decoder",
    "text to 128 px": "whole",
    "tokenizer": "tokenizing",
    "footprint": "footprint",
    "machine": "machine",
}


def main(row: str, who: str, seconds: str, seed: str) -> None:
    from tests.torchvision_stub import install

    if who != "minidalle2":
        install()
    import torch

    torch.manual_seed(int(seed))
    module = import_module(f"tests.benchmarks.{ROWS[row]}")
    print(json.dumps(module.MEASURES[who](float(seconds), int(seed))))


if __name__ == "__main__":
    main(*sys.argv[1:])
