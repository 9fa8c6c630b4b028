"""`minidalle2 export`: writes captioned pictures of a world as a folder or as tar files."""

import shutil
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from minidalle2.commands.options import make_folder
from minidalle2.storage.progress import bar
from minidalle2.worlds.catalogue import definition
from minidalle2.worlds.definition import Exporter
from minidalle2.worlds.shards.export import pack


def run(args: Namespace) -> None:
    world = definition(args.world).exporter
    world.check_split(args.split)
    refuse_to_mix(args.out, args.tar)
    folder = make_folder(args.out)
    if args.tar:
        export_shards(world, args, folder)
        return
    export_folder(world, args, folder)
    print(f"wrote {args.n} pictures of {args.size} px and metadata.jsonl to {folder}")


def export_folder(world: Exporter, args: Namespace, folder: Path) -> None:
    with bar(f"drawing {args.n:,} pictures", args.n) as shown:
        for written in world.export(args.split, args.n, args.size, args.seed, folder):
            shown.update(written - shown.n)


def export_shards(world: Exporter, args: Namespace, folder: Path) -> None:
    """Writes a temporary folder of pictures and packs it into tar files."""
    with TemporaryDirectory(dir=folder, prefix="unpacked-") as temporary:
        export_folder(world, args, Path(temporary))
        with bar(f"packing {args.n:,} pictures", args.n) as shown:
            for packed in pack(Path(temporary), folder, args.tar):
                shown.update(packed - shown.n)
        licences = Path(temporary) / "LICENSES"
        if licences.is_dir():  # the licences must stay with the pictures
            shutil.copytree(licences, folder / "LICENSES", dirs_exist_ok=True)
    shards = -(-args.n // args.tar)
    print(f"wrote {args.n} pictures of {args.size} px in {shards} tar files to {folder}")


def refuse_to_mix(folder: Path, tar: int | None) -> None:
    """Raises ValueError if `folder` would contain both single pictures and tar files.

    A training could not know which of them to use.
    """
    other, what = ("metadata.jsonl", "a folder of pictures") if tar else ("*.tar", "tar files")
    if any(folder.glob(other)):
        raise ValueError(f"{folder} already holds {what}; choose another --out")
