"""minidalle2 beside its peers: python -m tests.benchmarks --seconds 120 --rounds 6

Makes an environment for the peers, once, then measures every row there, ours and the peers' in
turn, each in a process of its own, and writes docs/benchmarks.json after each, at the end
benchmarks.md and benchmarks.png beside it. Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from minidalle2.commands.evaluate import hardware
from minidalle2.storage.checkpoints import write_json
from tests.benchmarks.environment import ROOT, prepare
from tests.benchmarks.measure import ROWS
from tests.benchmarks.report import write_report

WHO = {  # ours first
    "clip": ("minidalle2", "open_clip", "x-clip"),
    "prior": ("minidalle2", "dalle2-pytorch", "diffusers"),
    "decoder": ("minidalle2", "dalle2-pytorch", "diffusers"),
    "text to 128 px": ("minidalle2", "dalle2-pytorch"),
    "tokenizer": ("minidalle2", "tokenizers"),
    "footprint": ("minidalle2", "dalle2-pytorch", "open_clip", "x-clip", "diffusers"),
    "machine": ("minidalle2",),
}


def main() -> None:
    args = arguments().parse_args()
    rows = args.rows.split(",") if args.rows else list(ROWS)
    if unknown := [row for row in rows if row not in ROWS]:
        sys.exit(f"there is no row {unknown[0]!r}; --rows takes some of {','.join(ROWS)}")
    python, path = prepare(args.env), args.out / "benchmarks.json"
    result = {"seconds": args.seconds, "rounds": args.rounds, "runs": []}
    if args.resume and path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["seconds"] != args.seconds:
            sys.exit(f"{path} was measured with --seconds {found['seconds']:g}; resume with that")
        result["runs"] = found["runs"]
    import torch

    result["hardware"] = hardware(torch.device("cpu"))
    known = {(run["row"], run["who"], run["round"]) for run in result["runs"]}
    for turn in range(args.rounds):
        for row in rows:
            for who in WHO[row]:
                if (row, who, turn) not in known:
                    result["runs"].append(run_one(python, row, who, args.seconds, turn))
                    write_json(path, result)
    write_report(result, args.out)
    print(f"written to {args.out / 'benchmarks.md'}")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="for each training (120)")
    parser.add_argument("--rounds", type=int, default=6, help="runs of each measurement (6)")
    parser.add_argument("--rows", help=f"some of {','.join(ROWS)} (all)")
    parser.add_argument("--resume", action="store_true", help="keep what is measured already")
    parser.add_argument("--env", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    return parser


def run_one(python: Path, row: str, who: str, seconds: float, turn: int) -> dict:
    """A measurement in its own process; where it fails, its last words in place of numbers."""
    started = time.monotonic()
    command = [str(python), "-W", "ignore", "-m", "tests.benchmarks.measure", row, who]
    done = subprocess.run(
        [*command, str(seconds), str(turn)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    run = {"row": row, "who": who, "round": turn}
    if done.returncode == 0:
        run["numbers"] = json.loads(done.stdout.strip().splitlines()[-1])
    else:
        run["failed"] = (done.stderr.strip() or "no output").splitlines()[-1][:200]
    said = run.get("numbers") or run["failed"]
    print(f"{turn + 1} {row:15} {who:15} {time.monotonic() - started:6.0f} s  {said}", flush=True)
    return run


if __name__ == "__main__":
    main()
