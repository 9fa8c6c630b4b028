"""`minidalle2 export`: writes captioned pictures of a world as a folder or as tar files."""

import shutil
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from minidalle2.commands.options import make_folder
from minidalle2.commands.output_folder import (
    LICENSES,
    alone,
    check_licences,
    earlier_export,
    replace,
)
from minidalle2.storage.progress import bar
from minidalle2.worlds.catalogue import WORLDS, definition, find
from minidalle2.worlds.definition import Exporter
from minidalle2.worlds.shards.export import pack


def run(args: Namespace) -> None:
    """Writes the dataset to a temporary folder, which replaces an earlier export at the end.

    So neither an error nor Ctrl-C leaves a mixture of two datasets.
    """
    found = definition(args.world)
    world = found.exporter
    world.check_split(args.split)
    refuse_to_mix(args.out, args.tar)
    folder = make_folder(args.out)
    with alone(folder), TemporaryDirectory(dir=folder, prefix="unfinished-") as temporary:
        earlier_export(folder)  # raises ValueError before anything is drawn
        check_licences(found.licences and found.licences(), folder)
        pictures = make_folder(Path(temporary) / "pictures")
        export_folder(world, args, pictures)
        new = pack_all(pictures, Path(temporary) / "tar", args.tar) if args.tar else pictures
        replace([*earlier_export(folder), *earlier_licences(folder)], new, folder)
    what = f"in {-(-args.n // args.tar)} tar files" if args.tar else "and metadata.jsonl"
    print(f"wrote {args.n} pictures of {args.size} px {what} to {folder}")


def export_folder(world: Exporter, args: Namespace, folder: Path) -> None:
    with bar(f"drawing {args.n:,} pictures", args.n) as shown:
        for written in world.export(args.split, args.n, args.size, args.seed, folder):
            shown.update(written - shown.n)


def pack_all(pictures: Path, folder: Path, per_shard: int) -> Path:
    """Packs a folder of pictures into tar files. Returns `folder`, which contains them."""
    folder.mkdir()
    total = sum(1 for _ in pictures.glob("*.png"))
    with bar(f"packing {total:,} pictures", total) as shown:
        for packed in pack(pictures, folder, per_shard):
            shown.update(packed - shown.n)
    if (pictures / LICENSES).is_dir():  # the licences must stay with the pictures
        shutil.copytree(pictures / LICENSES, folder / LICENSES)
    return folder


def earlier_licences(folder: Path) -> list[Path]:
    """The licences that an earlier export of any world put into the folder, unchanged."""
    sources = [found.licences for found in map(find, WORLDS) if found and found.licences]
    if not (folder / LICENSES).is_dir():
        return []
    texts = {path.read_bytes() for licences in sources for path in licences().iterdir()}
    files = [path for path in (folder / LICENSES).iterdir() if path.is_file()]
    return [path for path in files if path.read_bytes() in texts]


def refuse_to_mix(folder: Path, tar: int | None) -> None:
    """Raises ValueError if `folder` would contain both single pictures and tar files.

    A training could not know which of them to use.
    """
    other, what = ("metadata.jsonl", "a folder of pictures") if tar else ("*.tar", "tar files")
    if any(folder.glob(other)):
        raise ValueError(f"{folder} already holds {what}; choose another --out")
