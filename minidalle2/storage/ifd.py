"""The directory of a TIFF file or of EXIF data, which has the same structure: tags and values.

Everything is read tolerantly: whatever lies outside of the data or has an unknown form is ignored.
"""

import re
from dataclasses import dataclass

HEADER = re.compile(rb"(?:Exif\0\0)*(II[*+]\0|MM\0[*+])")  # + is BigTIFF, with 64-bit offsets
ORIENTATION = 0x0112
INTEGERS = {1: 1, 3: 2, 4: 4, 16: 8}  # TIFF's number of an integer type → bytes
IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


@dataclass
class Directory:
    """The first directory of TIFF data. An entry is (tag, its 12 or 20 bytes in the file)."""

    order: str  # of the bytes in a number: "little" or "big"
    large: bool  # BigTIFF
    entries: list[tuple[int, bytes]]


def directory_of(data: bytes) -> Directory | None:
    """Returns the first directory of TIFF or EXIF data, or None if the data does not begin so."""
    header = HEADER.match(data)
    if not header:
        return None
    tiff = memoryview(data)[header.start(1) :]
    order = "little" if header[1].startswith(b"II") else "big"
    large = b"+" in header[1]
    start, width, count, size = (8, 8, 8, 20) if large else (4, 4, 2, 12)
    at = int.from_bytes(tiff[start : start + width], order)
    entries, end = [], at + count + size * int.from_bytes(tiff[at : at + count], order)
    for i in range(at + count, min(end, len(tiff) - size + 1), size):
        entry = bytes(tiff[i : i + size])
        entries.append((int.from_bytes(entry[:2], order), entry))
    return Directory(order, large, entries)


def numbers_of(entry: bytes, data: bytes, directory: Directory) -> list[int]:
    """The whole numbers of an entry; [] if they are of another type. `data` is the TIFF file."""
    order, start = directory.order, 12 if directory.large else 8
    count = int.from_bytes(entry[4:start], order)
    width = INTEGERS.get(int.from_bytes(entry[2:4], order), 0)
    if width * count > (8 if directory.large else 4):  # then the entry has their place
        place = int.from_bytes(entry[start:], order)
        values = data[place : place + width * count]
    else:
        values = entry[start : start + width * count]
    return [int.from_bytes(values[i : i + width], order) for i in range(0, len(values), width or 1)]


def orientation_of(metadata: list[bytes]) -> int:
    """Blocks of EXIF or XMP data → how the picture is to be turned: EXIF's 1 (not at all) to 8.

    Looks for this one value only. So a fault in any other value does not matter.
    """
    for block in metadata:
        if directory := directory_of(block):
            for tag, entry in directory.entries:
                width = INTEGERS.get(int.from_bytes(entry[2:4], directory.order), 0)
                start = 12 if directory.large else 8
                value = int.from_bytes(entry[start : start + width], directory.order)
                if tag == ORIENTATION and 1 <= value <= 8:
                    return value
    found = next(filter(None, map(IN_XMP.search, metadata)), None)
    return int(found[1]) if found else 1
