"""`minidalle2 export`: captioned pictures of a world as a dataset."""

from argparse import Namespace

from tqdm import tqdm

from minidalle2.commands.options import make_folder
from minidalle2.worlds.shapes.export import check_split, export


def run(args: Namespace) -> None:
    check_split(args.split)
    folder = make_folder(args.out)
    with tqdm(total=args.n, unit="picture", disable=None) as bar:  # None: only on a terminal
        for written in export(args.split, args.n, args.size, args.seed, folder):
            bar.update(written - bar.n)
    print(f"wrote {args.n} pictures of {args.size} px and metadata.jsonl to {folder}")
