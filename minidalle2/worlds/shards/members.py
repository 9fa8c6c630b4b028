"""A tar file → the positions of the files in it.

A tar file is read header by header, so its size does not matter. Nothing is unpacked. A name in a
tar file is used as a label only, never as a path.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import BinaryIO

from minidalle2.worlds.report import Report

AT_ONCE = 1 << 20  # bytes that are searched at a time for the next header
CHECKSUM = slice(148, 156)  # of a header: the sum of its bytes, with spaces in these places
NAMING = b"LKxgX"  # types of headers that are followed by the header they belong to
MAGIC = slice(257, 262)  # a header of every present tar format has b"ustar" there


@dataclass
class Member:
    """A file inside a tar file: `size` bytes from byte `offset` on. A link has no content."""

    name: str
    offset: int
    size: int
    link: bool


class BrokenShard(ValueError):
    """A tar file that can't be read to its end. The message contains its path."""


def members(path: Path, report: Report) -> Iterator[Member]:
    """Yields the regular files and links of a tar file.

    A damaged header is noted, and reading goes on at the next header. Raises BrokenShard if the
    tar file has no proper end, because an incomplete download looks like that. Python's tarfile
    module alone would accept most such files as complete. For damaged sizes and names it raises
    other errors than its own, too.
    """
    length, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as tar:
            while True:
                while member := _next(tar):
                    tar.members.clear()  # otherwise this list grows with the file
                    start, end = end, tar.offset  # offset of the next header
                    if not start < end <= length or _stored_size(tar.fileobj, member) < 0:
                        raise tarfile.ReadError("the next header is beyond the end or not ahead")
                    link = member.islnk() or member.issym()
                    if link or (member.isreg() and not member.issparse()):
                        yield Member(member.name, member.offset_data, member.size, link)
                if _ends(tar.fileobj, tar.offset):
                    return
                broken = _damaged_header(tar.fileobj, tar.offset)
                tar.offset = end = _next_header(tar.fileobj, broken + BLOCKSIZE)
                remedy = "what lies there is lost; download or write the tar file again"
                report.note("with a damaged header", f"{path.name} at byte {broken:,}", remedy)
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        broken = f"cut off or broken ({length:,} bytes), and the samples before the fault are used"
        raise BrokenShard(f"{path} is {broken if end else 'not a plain tar file'}") from error


def _stored_size(file: BinaryIO, member: tarfile.TarInfo) -> int:
    """The size in the header. For a sparse file, `member.size` is the size without gaps."""
    if not member.issparse():
        return member.size
    file.seek(member.offset)
    return tarfile.TarInfo.frombuf(file.read(BLOCKSIZE), "utf-8", "surrogateescape").size


def _ends(file: BinaryIO, offset: int) -> bool:
    """Whether the block at `offset` marks the end of the archive."""
    file.seek(offset)
    return file.read(BLOCKSIZE) == bytes(BLOCKSIZE)


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member, or None at the end and before a damaged header."""
    start = tar.offset
    try:
        return tar.next()
    except tarfile.ReadError:  # the name of a member can have a header of its own
        if not start or tar.offset != start:
            raise
        return None


def _damaged_header(file: BinaryIO, offset: int) -> int:
    """The position of a header with a wrong checksum, at `offset` or behind headers for its name.

    Raises ReadError if the checksum is right. Then the header is not damaged but wrong.
    """
    while True:
        file.seek(offset)
        block = file.read(BLOCKSIZE)
        stored = block[CHECKSUM]
        digits = stored.strip(b"\0 ")
        octal = digits and not digits.strip(b"01234567")
        right = octal and int(digits, 8) == sum(block) - sum(stored) + 8 * ord(" ")
        if len(block) == BLOCKSIZE and not right:
            return offset
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if header.type not in NAMING or header.size < 0:
            raise tarfile.ReadError("the end of the archive is missing")
        offset += BLOCKSIZE + -(-header.size // BLOCKSIZE) * BLOCKSIZE


def _next_header(file: BinaryIO, offset: int) -> int:
    """The position of the first valid header from `offset` on. Raises ReadError without one."""
    file.seek(offset)
    while part := file.read(AT_ONCE):
        for start in range(0, len(part), BLOCKSIZE):
            block = part[start : start + BLOCKSIZE]
            if block[MAGIC] == b"ustar" and _is_header(block):
                return offset + start
        offset += len(part)
    raise tarfile.ReadError("there is no header after a broken one")


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
