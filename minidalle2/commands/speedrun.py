"""`minidalle2 speedrun`: measures how fast training learns to draw two objects, and records it."""

import json
from argparse import Namespace
from pathlib import Path

from minidalle2.commands.evaluate import HEADER, hardware, table_line
from minidalle2.commands.options import make_folder
from minidalle2.commands.train import discard_tokenizer, refuse_to_start_over, train
from minidalle2.scale.loop import ONE_PASS
from minidalle2.storage.devices import pick_device
from minidalle2.storage.memory import keep_freed_memory
from minidalle2.worlds.shapes.speedrun import GOAL, STAGES, clocked, judged, load

RECORD = {"hardware", "profile", "rows", "seconds"}  # the keys of record.json


def run(args: Namespace) -> None:
    keep_freed_memory()
    device, folder = pick_device(args.device), make_folder(args.out)
    refuse_to_start_over(folder, STAGES)
    discard_tokenizer(folder)
    remove_record(folder / "record.json")
    profile = args.profile or ("speedrun_gpu" if device.type == "cuda" else "speedrun")
    seconds = clocked(
        lambda stage, world: train(stage, world, folder, profile, device, None, ONE_PASS), device
    )
    total = sum(seconds.values())
    print(f"{'all':12}  {total / 60:6.1f} min; the clock is stopped, {args.n} prompts are tested")
    rows = judged(load(folder, device), args.n, args.seed)
    print(HEADER, *map(table_line, rows), sep="\n")
    share = rows[-1]["accuracy"]
    verdict = "reached" if share >= GOAL else "missed"
    print(f"{share:.1%} of pictures correct after {total:.0f} s; goal of {GOAL:.0%} {verdict}")
    record = {"hardware": hardware(device), "profile": profile, "rows": rows}
    record["seconds"] = {stage: round(spent, 1) for stage, spent in seconds.items()}
    path = folder / "record.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with open(folder.parent / "speedruns.jsonl", "a", encoding="utf-8") as records:
        records.write(json.dumps(record) + "\n")
    print(f"record: {path}; also appended to {folder.parent / 'speedruns.jsonl'}")


def remove_record(path: Path) -> None:
    """Removes the record of an earlier speedrun, because it does not describe the new weights.

    Raises ValueError if the file is not a record.
    """
    if not path.exists():
        return
    try:
        is_record = set(json.loads(path.read_text("utf-8"))) == RECORD
    except (ValueError, TypeError):
        is_record = False
    if not is_record:
        raise ValueError(
            f"{path} is not a record of a speedrun; move it, or choose another folder with --out"
        )
    path.unlink()
