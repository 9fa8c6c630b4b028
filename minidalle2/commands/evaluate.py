"""`minidalle2 evaluate`: a table of how well trained weights do, and the same as JSON."""

import os
import platform
import time
from argparse import Namespace
from pathlib import Path

import torch

from minidalle2.commands.options import make_folder, pick_device, weights_of
from minidalle2.evaluation.judging import report_of
from minidalle2.training.checkpoints import write_json
from minidalle2.worlds.world import label_of

HEADER = f"{'what':13}  {'name':42}  {'split':12}  {'n':>6}  {'accuracy':>8}  95 % interval"


def run(args: Namespace) -> None:
    label_of(args.world)  # no such world is another error than no judge for it
    report = report_of(args.world)
    what = chosen(args.what, report.WHAT, getattr(report, "PROBES", ()))
    device = pick_device(args.device)
    folder = weights_of(args.world, args.weights)
    sheets = {}
    if args.pictures:
        if args.world != "emoji":
            raise ValueError("--pictures writes sheets of emoji only; --world emoji would work")
        sheets["pictures"] = make_folder(args.pictures)
    started, rows = time.monotonic(), []
    for row in report.evaluate(folder, device, what, args.n, args.seed, **sheets):
        if not rows:
            print(HEADER)
        print(table_line(row), flush=True)
        rows.append(row)
        if args.json:  # after every row: an hour's rows survive Ctrl-C
            save(args.json, rows, device, (time.monotonic() - started) / 60)
    if args.json:
        print(f"written to {args.json}")


def chosen(text: str, known: tuple[str, ...], probes: tuple[str, ...] = ()) -> list[str]:
    """'prompts,clip' → ['prompts', 'clip']. `all` is all that is known but the probes, which are
    experiments on the weights rather than their quality; `probes` is all of those."""
    together = {"all": known} | ({"probes": probes} if probes else {})
    names = [name.strip() for name in text.split(",")]
    what = [part for name in names for part in together.get(name, (name,))]
    for name in what:
        if name not in (*known, *probes):
            also = f", probes or some of {','.join(probes)}" if probes else ""
            raise ValueError(
                f"can't evaluate {name!r}; --what takes all or some of {','.join(known)}{also}"
            )
    return list(dict.fromkeys(what))


def table_line(row: dict) -> str:
    line = f"{row['what']:13}  {row['name']:42}  {row['split']:12}  {row['n']:6}"
    number, form = ("accuracy", ".1%") if "accuracy" in row else ("value", ".3f")
    line += f"  {row[number]:8{form}}"
    if row["low"] is not None:
        line += f"  {row['low']:{form}} to {row['high']:{form}}"
    if "decibels" in row:
        line += f"  {row['decibels']:.1f} dB"
    return line


def save(path: Path, rows: list[dict], device: torch.device, minutes: float) -> None:
    write_json(path, {"rows": rows, "hardware": hardware(device), "minutes": round(minutes, 2)})


def hardware(device: torch.device) -> str:
    """What the numbers were measured on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    cores = f"{os.cpu_count()} {platform.machine()} cores"
    return f"{device.type}, {cores}, {torch.get_num_threads()} threads, torch {torch.__version__}"
