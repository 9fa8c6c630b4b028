"""`minidalle2 export`: captioned pictures of a world as a dataset: a folder, or shards (--tar)."""

import shutil
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from tqdm import tqdm

from minidalle2.commands.options import make_folder
from minidalle2.worlds.shards.export import pack
from minidalle2.worlds.world import label_of


def run(args: Namespace) -> None:
    world = exporter(args.world)
    world.check_split(args.split)
    refuse_to_mix(args.out, args.tar)
    folder = make_folder(args.out)
    if args.tar:
        export_shards(world, args, folder)
        return
    export_folder(world, args, folder)
    print(f"wrote {args.n} pictures of {args.size} px and metadata.jsonl to {folder}")


def export_folder(world: ModuleType, args: Namespace, folder: Path) -> None:
    with tqdm(total=args.n, unit="picture", disable=None) as bar:  # None: only on a terminal
        for written in world.export(args.split, args.n, args.size, args.seed, folder):
            bar.update(written - bar.n)


def export_shards(world: ModuleType, args: Namespace, folder: Path) -> None:
    """By way of an image folder, which is there only meanwhile."""
    with TemporaryDirectory(dir=folder, prefix="unpacked-") as temporary:
        export_folder(world, args, Path(temporary))
        for _ in pack(Path(temporary), folder, args.tar):
            pass
        licences = Path(temporary) / "LICENSES"
        if licences.is_dir():  # they must stay with the pictures
            shutil.copytree(licences, folder / "LICENSES", dirs_exist_ok=True)
    shards = -(-args.n // args.tar)
    print(f"wrote {args.n} pictures of {args.size} px in {shards} tar files to {folder}")


def refuse_to_mix(folder: Path, tar: int | None) -> None:
    """Raises ValueError where pictures and tar files would lie in one folder: which of them a
    training should take could not be known."""
    other, what = ("metadata.jsonl", "a folder of pictures") if tar else ("*.tar", "tar files")
    if any(folder.glob(other)):
        raise ValueError(f"{folder} already holds {what}; choose another --out")


def exporter(name: str) -> ModuleType:
    """A world's export.py, with `check_split` and `export`. Raises ValueError where it has none."""
    if name == "shapes":
        from minidalle2.worlds.shapes import export
    elif name == "emoji":
        from minidalle2.worlds.emoji import export
    elif name == "critters":
        from minidalle2.worlds.critters import export
    else:
        raise ValueError(
            f"the world {label_of(name)} has its pictures in files already and can't be exported; "
            "--world shapes, emoji and critters can"
        )
    return export
