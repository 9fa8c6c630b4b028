"""`minidalle2 export`: captioned pictures of a world as a dataset."""

from argparse import Namespace
from types import ModuleType

from tqdm import tqdm

from minidalle2.commands.options import make_folder
from minidalle2.worlds.world import label_of


def run(args: Namespace) -> None:
    world = exporter(args.world)
    world.check_split(args.split)
    folder = make_folder(args.out)
    with tqdm(total=args.n, unit="picture", disable=None) as bar:  # None: only on a terminal
        for written in world.export(args.split, args.n, args.size, args.seed, folder):
            bar.update(written - bar.n)
    print(f"wrote {args.n} pictures of {args.size} px and metadata.jsonl to {folder}")


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
            f"the world {label_of(name)} is a folder of pictures already and can't be exported; "
            "--world shapes, emoji and critters can"
        )
    return export
