"""A picture file → the same file without its metadata, and the metadata.

EXIF data, colour profiles and texts do not change the pixels here, but a fault in them makes Pillow
refuse the whole file. So Pillow gets only the parts that it needs for the pixels. This is done for
PNG, JPEG, WebP, AVIF and TIFF. Other files are returned as they are.
"""

import re
import zlib
from contextlib import suppress

from minidalle2.storage.ifd import Directory, directory_of, numbers_of

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
PNG_PIXELS = (b"IHDR", b"IDAT", b"IEND")
PALETTE = 3  # a PNG's kind of colours; other kinds need no palette
TRANSPARENCY = {0: 2, 2: 6, PALETTE: 1}  # kind of colours → least bytes of a tRNS chunk
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
MOST_TEXT = 1 << 20  # bytes of a compressed text that are read
WEBP_METADATA = (b"EXIF", b"XMP ", b"ICCP")
WEBP_FLAGS = 0b00101100  # they say that there is a profile, EXIF or XMP
# EXIF and XMP in an AVIF's list of its parts. Decoders skip parts of other types. The orientation
# has a part of its own, which Pillow turns into EXIF data.
AVIF_METADATA = re.compile(rb"(infe\x02.{7})(?:Exif|mime)", re.DOTALL)
# Size, bits, compression, colours, position of the strips or tiles, predictor, colour map, samples.
TIFF_PIXELS = {*range(254, 267), 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 332}
PLACES = ((273, 279), (324, 325))  # tags of the positions and sizes of strips and of tiles
TIFF_PIXELS |= {336, 338, 339, 340, 341, 347, *range(512, 522), 529, 530, 531, 532, 50674}


def bare(data: bytes) -> tuple[bytes, list[bytes]]:
    """→ the file without metadata, and blocks of EXIF and XMP data (see ifd.orientation_of)."""
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(JPEG):
        return _jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data[4:8] == b"ftyp":
        return AVIF_METADATA.sub(rb"\g<1>free", data, count=2), []
    if data.startswith((b"II", b"MM")):
        return _tiff(data)
    return data, []


def _png(data: bytes) -> tuple[bytes, list[bytes]]:
    """A chunk is: 4 bytes size, 4 bytes kind, content, 4 bytes checksum."""
    kept, metadata, at = [PNG], [], len(PNG)
    colours = data[25] if len(data) > 25 else 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in PNG_PIXELS or len(kind) < 4 or (kind == b"PLTE" and colours == PALETTE):
            kept.append(data[at : at + 12 + size])
        elif kind == b"tRNS":
            if size >= TRANSPARENCY.get(colours, 0) and _is_whole(data[at : at + 12 + size]):
                kept.append(data[at : at + 12 + size])
        elif kind == b"eXIf":
            metadata.append(data[at + 8 : at + 8 + size])
        elif kind in PNG_TEXTS:
            metadata.append(_png_text(kind, data[at + 8 : at + 8 + size]))
        at += 12 + size
    return b"".join(kept), metadata


def _is_whole(chunk: bytes) -> bool:
    """Whether the checksum fits. A damaged transparency is ignored, as in browsers."""
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _png_text(kind: bytes, content: bytes) -> bytes:
    """Returns the text of a chunk, or the EXIF data that ImageMagick writes as such a text."""
    key, _, text = content.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":  # flag, method, language, translated key, text
        packed, text = text[:1] == b"\1", text[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif packed:
        text = text[1:]
    with suppress(zlib.error, ValueError):
        if packed:
            text = zlib.decompressobj().decompress(text, MOST_TEXT)
        if key == b"Raw profile type exif":  # an empty line, "exif", the size, hexadecimal digits
            text = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    return text


def _jpeg(data: bytes) -> tuple[bytes, list[bytes]]:
    """A segment before the pixels is: FF, its marker, 2 bytes size, content."""
    kept, metadata, at = [data[:2]], [], 2
    while 0 <= at < len(data) - 4:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF):
            at = data.find(b"\xff", at + 1)  # decoders look for the next marker, too
            continue
        if marker == 0xDA:  # the pixels
            break
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            content = data[at + 4 : end]
            if _about_colours(marker, content):
                kept.append(data[at:end])
            metadata.append(content)
        else:
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + (data[at:] if at >= 0 else b""), metadata


def _about_colours(marker: int, content: bytes) -> bool:
    """Whether a JPEG segment says how the colours are stored, and is complete."""
    if marker == 0xE0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    return marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12


def _webp(data: bytes) -> tuple[bytes, list[bytes]]:
    """A chunk is: 4 bytes kind, 4 bytes size, content, a zero byte if the size is odd."""
    kept, metadata, at = [], [], 12
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at < end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunk = data[at : at + 8 + size + size % 2]
        if kind in WEBP_METADATA:
            metadata.append(chunk[8 : 8 + size])
        elif kind == b"VP8X" and len(chunk) > 8:
            kept.append(chunk[:8] + bytes([chunk[8] & ~WEBP_FLAGS]) + chunk[9:])
        else:
            kept.append(chunk)
        at += 8 + size + size % 2
    pixels = b"".join(kept)
    return b"RIFF" + (4 + len(pixels)).to_bytes(4, "little") + b"WEBP" + pixels, metadata


def _tiff(data: bytes) -> tuple[bytes, list[bytes]]:
    """Appends a directory with the needed entries only, and lets the header point to it.

    A file that lacks a part of its pixels stays as it is. Otherwise the appended directory would be
    read as pixels.
    """
    directory = directory_of(data)
    if directory is None or _end_of_pixels(data, directory) > len(data):
        return data, [data]
    order, entries = directory.order, [e for tag, e in directory.entries if tag in TIFF_PIXELS]
    start, width, count = (8, 8, 8) if directory.large else (4, 4, 2)
    body = data + bytes(-len(data) % 8)
    header = body[:start] + len(body).to_bytes(width, order) + body[start + width :]
    return header + len(entries).to_bytes(count, order) + b"".join(entries) + bytes(width), [data]


def _end_of_pixels(data: bytes, directory: Directory) -> int:
    """Where the last strip or tile of a TIFF file ends."""
    entries, end = dict(directory.entries), 0
    for offsets, sizes in PLACES:
        found = [numbers_of(entries.get(tag, b""), data, directory) for tag in (offsets, sizes)]
        end = max([end, *(map(sum, zip(*found, strict=False)))])
    return end
