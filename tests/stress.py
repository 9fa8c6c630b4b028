"""Training killed at random moments, and many pictures drawn in one process.

python -m tests.stress kills 100
python -m tests.stress pictures --minutes 5

Kills need os.fork, so Linux or macOS: a child that starts with torch imported dies at any moment of
its training, rather than mostly while it imports.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.commands import draw, train
from minidalle2.commands.cli import main
from minidalle2.commands.results import CHUNK, write_pictures
from minidalle2.dalle2 import DALLE2, WEIGHTS, Sampling
from minidalle2.storage.checkpoints import load_model, load_tokenizer, read_tensors
from minidalle2.training import run, stages
from minidalle2.training.recipe import Recipe
from minidalle2.training.world import Sizes
from minidalle2.upsampler import Upsampler, UpsamplerConfig
from minidalle2.worlds.shapes.world import Shapes

STAGES = ("tokenizer", "clip", "upsampler64")
MODELS = {"clip": (CLIPConfig, CLIP), "upsampler64": (UpsamplerConfig, Upsampler)}
STEPS = 30  # of each stage
LIFE = 0.5  # of an undisturbed training: how long one lives at most before it is killed
WARM_UP = 320  # pictures after which memory should not grow


def train_tiny(folder: Path) -> int:
    """`minidalle2 train all --resume` of tiny stages that save after every step; → exit code."""
    torch.set_num_threads(1)
    tiny = CLIPConfig(embedding=12, patch_size=8, width=16, heads=2, image_layers=1, text_layers=1)
    train.ALL, stages.CAPTIONS = STAGES, 100
    Shapes.sizes = Sizes(300, tiny)
    stages.recipe_of = lambda *_: Recipe(steps=STEPS, batch_size=4, warmup_steps=3)
    run.SAVE_EVERY_SECONDS = 0
    return main(["train", "all", "--out", str(folder), "--resume", "--device", "cpu"])


def born(folder: Path) -> int:
    """A child that trains into `folder`; → its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(train_tiny(folder))
    return child


def killed(folder: Path, seconds: float, writing: bool) -> bool:
    """Train until so long after the first file was written, and, where `writing`, until the next
    is being written, then kill -9; → whether the training had ended before."""
    before, child, deadline = stamps(folder), born(folder), None
    while (
        deadline is None
        or time.monotonic() < deadline
        or (writing and not any(folder.rglob("*.tmp")))
    ):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return True
        if deadline is None and stamps(folder) != before:
            deadline = time.monotonic() + seconds
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def stamps(folder: Path) -> dict[Path, int]:
    """When each file was written."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it has just been renamed
            found[path] = path.stat().st_mtime_ns
    return found


def inspect(folder: Path) -> int:
    """Everything that lies there can be read; → steps that are safe, of all stages."""
    if (folder / "tokenizer.json").exists():
        load_tokenizer(folder / "tokenizer.json")
    steps = 0
    for stage, classes in MODELS.items():
        if (folder / stage / "model.safetensors").exists():
            load_model(folder / stage, stage, *classes)
        if (folder / stage / "log.jsonl").exists():
            lines = (folder / stage / "log.jsonl").read_text().splitlines()
            assert all(json.loads(line) for line in lines if line)
        if (folder / stage / "training.safetensors").exists():
            _, metadata = read_tensors(folder / stage / "training.safetensors")
            steps += json.loads(metadata["progress"])["step"]
    return steps


def assert_equal(folder: Path, undisturbed: Path) -> None:
    """The same files with the same weights, and nothing half-written beside them."""
    names = [sorted(p.relative_to(f) for p in f.rglob("*")) for f in (folder, undisturbed)]
    assert names[0] == names[1], names
    assert len({(f / "tokenizer.json").read_bytes() for f in (folder, undisturbed)}) == 1
    for stage in MODELS:
        for file in ("model.safetensors", "training.safetensors"):
            ours, theirs = (read_tensors(f / stage / file)[0] for f in (folder, undisturbed))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours), (stage, file)


def kills(wanted: int, seed: int) -> str:
    """Kill trainings until so many have died; each one that ends is compared and begun anew."""
    rng, count, in_saving, ended, started = random.Random(seed), 0, 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        undisturbed, folder = Path(name) / "undisturbed", Path(name) / "killed"
        assert os.waitpid(born(undisturbed), 0)[1] == 0
        life = LIFE * (time.monotonic() - started)
        safe, finished = 0, False
        while count < wanted or not finished:
            seconds = rng.uniform(0, life) if count < wanted else 600  # the last one is left alone
            finished = killed(folder, seconds, writing=count % 2 == 1 and count < wanted)
            if finished:
                assert_equal(folder, undisturbed)
                shutil.rmtree(folder)
                safe, ended = 0, ended + 1
                continue
            count += 1
            in_saving += bool(list(folder.rglob("*.tmp")))
            now = inspect(folder)
            assert now >= safe, f"{safe - now} steps that were saved are lost"
            safe = now
    minutes = (time.monotonic() - started) / 60
    return (
        f"{count} kills, {in_saving} of them while a file was being written; {ended} trainings "
        f"ended, each with the weights of an undisturbed one ({minutes:.1f} min)"
    )


def peak() -> float:
    """Megabytes that this process has had in memory at most."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def pictures(minutes: float, most: int) -> str:
    """Draw as `minidalle2 draw` does, at 32 px in few steps, each picture from another prompt."""
    dalle2, started = DALLE2.load(WEIGHTS / "shapes"), time.monotonic()
    sampling = Sampling(candidates=2, prior_steps=2, decoder_steps=2, drawings=1)
    drawn, warm = 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        while drawn < most and time.monotonic() - started < 60 * minutes:
            prompts = [
                f"a red circle {drawn + i} {chr(0x4E00 + drawn % 9000)}" for i in range(CHUNK)
            ]
            jobs = [draw.Job(f"{i:04d}_picture.png", p, drawn + i) for i, p in enumerate(prompts)]
            made = draw.pictures(dalle2, jobs, sampling, {"size": 32})
            folder = Path(name) / str(drawn)
            folder.mkdir()
            drawn += len(write_pictures(folder, made))
            warm = peak() if drawn <= min(WARM_UP, most // 2) else warm
    return f"{drawn:,} pictures: at most {warm:.0f} MB at the start, {peak():.0f} MB at the end"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_kills = commands.add_parser("kills")
    of_kills.add_argument("n", type=int, nargs="?", default=100)
    of_kills.add_argument("--seed", type=int, default=0)
    of_pictures = commands.add_parser("pictures")
    of_pictures.add_argument("--minutes", type=float, default=5)
    of_pictures.add_argument("-n", type=int, default=10_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = kills(args.n, args.seed) if args.command == "kills" else pictures(args.minutes, args.n)
    print(done)
