"""`minidalle2 evaluate`: measures trained weights. Prints a table, and can write it as JSON."""

import os
import platform
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from minidalle2.commands.options import make_folder, weights_of
from minidalle2.commands.output_folder import alone, check_licences, existing, replace
from minidalle2.storage.checkpoints import write_json
from minidalle2.storage.devices import pick_device
from minidalle2.storage.ours import check_ours
from minidalle2.worlds.catalogue import definition

HEADER = f"{'what':13}  {'name':42}  {'split':12}  {'n':>6}  {'accuracy':>8}  95 % interval"


def run(args: Namespace) -> None:
    world = definition(args.world)
    report = world.report
    what = chosen(args.what, report.what, report.probes, report.by_name)
    device = pick_device(args.device)
    folder = weights_of(args.world, args.weights)
    if args.pictures and not report.sheets:
        raise ValueError(
            f"--pictures works with --world emoji only, not with {args.world}; leave out "
            "--pictures, or evaluate emoji"
        )
    if args.pictures:
        check_licences(world.licences and world.licences(), args.pictures)
    started, rows = time.monotonic(), []
    with folder_of_sheets(args.pictures, report.sheets) as pictures:
        for row in report.evaluate(folder, device, what, args.n, args.seed, pictures):
            if not rows:
                tqdm.write(HEADER)
            tqdm.write(table_line(row))  # clears a progress bar of the same terminal first
            sys.stdout.flush()
            rows.append(row)
            if args.json:  # after every row, so that Ctrl-C does not lose the earlier rows
                save(args.json, rows, device, (time.monotonic() - started) / 60)
    if args.json:
        print(f"written to {args.json}")


@contextmanager
def folder_of_sheets(path: Path | None, names: tuple[str, ...]) -> Iterator[Path | None]:
    """A temporary folder for the sheets, None without `path`.

    At the end, also after an error or Ctrl-C, the new sheets replace all earlier sheets in `path`.
    Without a new sheet, the earlier ones stay. Raises ValueError if minidalle2 did not write one of
    them.
    """
    if path is None:
        yield None
        return
    folder = make_folder(path)
    with alone(folder), TemporaryDirectory(dir=folder, prefix="unfinished-") as temporary:
        sheets = [folder / name for name in names]
        check_ours(sheets)
        try:
            yield Path(temporary)
        finally:
            if any(Path(temporary).iterdir()):
                check_ours(sheets)
                replace(existing(sheets), Path(temporary), folder)


def chosen(
    text: str,
    known: tuple[str, ...],
    probes: tuple[str, ...] = (),
    by_name: tuple[str, ...] = (),
) -> list[str]:
    """'prompts,clip' → ['prompts', 'clip'].

    `all` means all names in `known`. `probes` means all names in `probes`, which are experiments
    with the weights and do not measure their quality. Names in `by_name` belong to neither. Raises
    ValueError for an unknown name.
    """
    together = {"all": known} | ({"probes": probes} if probes else {})
    names = [name.strip() for name in text.split(",")]
    what = [part for name in names for part in together.get(name, (name,))]
    for name in what:
        if name not in (*known, *probes, *by_name):
            also = f", probes or some of {','.join(probes)}" if probes else ""
            also += f", {','.join(by_name)}" if by_name else ""
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
    """A description of the hardware, its threads and the version of torch."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    cores = f"{os.cpu_count()} {platform.machine()} cores"
    return f"{device.type}, {cores}, {torch.get_num_threads()} threads, torch {torch.__version__}"
