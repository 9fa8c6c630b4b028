"""Metadata of a picture: a fault in it never costs the picture. And what Pillow gets wrong."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

from minidalle2.storage.bare import PNG, bare
from minidalle2.storage.decode import Unreadable, square, upright_size
from minidalle2.storage.ifd import orientation_of
from minidalle2.storage.pictures import load_png, load_square, size_of

SIDE = 32
PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
).resize((48, 36))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
if features.check("avif"):
    FORMS["AVIF"] = {}


def saved(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x010F], data[0x0112], data[0x011A], data[0x0128] = "a maker", orientation, 72.0, 2
    return data.tobytes()


def with_metadata(form: str, orientation: int = 6) -> bytes:
    options = FORMS[form] | {"exif": exif(orientation), "icc_profile": PROFILE}
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", "x" * 50)
        texts.add_text("Software", "y" * 50, zip=True)
        texts.add_itxt("Title", "z" * 50)
        options["pnginfo"] = texts
    return saved(PICTURE, form, **options)


def chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Kind, start and end (with the checksum) of the contents of a PNG's chunks."""
    found, at = [], len(PNG)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], at + 8, at + 12 + size))
        at += 12 + size
    return found


def spans(data: bytes, form: str) -> list[tuple[int, int]]:
    """Where the metadata of `with_metadata` lies: (start, end)."""
    if form == "PNG":
        kinds = (b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        return [(start, end) for kind, start, end in chunks(data) if kind in kinds]
    blocks = [(data.find(PROFILE), len(PROFILE))]
    if form == "AVIF":  # Pillow writes the orientation elsewhere
        start = data.find(b"MM\0*")
        blocks.append((start, data.find(b"a maker") - start))
    elif form != "TIFF":
        blocks.append((data.find(exif(6)[6:]), len(exif(6)) - 6))
    else:  # the entries of maker, orientation, resolutions and profile, after their tags
        at = int.from_bytes(data[4:8], "little")
        for entry in range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], "little"), 12):
            if int.from_bytes(data[entry : entry + 2], "little") in (271, 274, 282, 296, 34675):
                blocks.append((entry + 2, 10))
    assert all(start > 0 for start, _ in blocks)
    return [(start, start + size) for start, size in blocks]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(square(data, SIDE)).astype(int)


@pytest.mark.parametrize("form", FORMS)
def test_changed_metadata_never_costs_the_picture(form):
    """Every result is the picture in one of its eight orientations."""
    data = with_metadata(form)
    plain = saved(PICTURE, form, **FORMS[form])
    upright = square(plain, SIDE)
    turned = {np.asarray(upright.transpose(turn)).tobytes() for turn in Image.Transpose}
    turned.add(upright.tobytes())
    places, results = spans(data, form), set()
    for seed in range(150):
        rng, mutated = random.Random(seed), bytearray(data)
        start, end = rng.choice(places)
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(start, end)] = rng.choice((0, 255, rng.randrange(256)))
        results.add(square(bytes(mutated), SIDE).tobytes())
    assert results <= turned and (len(results) > 1 or form == "AVIF")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(10))
def test_the_orientation_is_that_of_pillow(form, orientation):
    data = with_metadata(form, orientation)
    with Image.open(io.BytesIO(data)) as image:
        theirs = ImageOps.exif_transpose(image)
    expected = pixels(saved(theirs, "PNG", exif=b""))
    assert np.abs(pixels(data) - expected).max() <= 1
    assert upright_size(data) == theirs.size


@pytest.mark.parametrize("large", [False, True])
def test_the_orientation_in_a_tiff_of_either_size_and_order(large):
    data = saved(PICTURE, "TIFF", big_tiff=large, exif=exif(8))
    assert upright_size(data) == PICTURE.size[::-1]
    assert np.array_equal(pixels(data), pixels(saved(PICTURE.rotate(90, expand=True), "PNG")))
    for order, start in (("<", b"II*\0"), (">", b"MM\0*")):
        entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 5, 0)
        block = start + struct.pack(f"{order}IH", 8, 1) + entry
        assert orientation_of([block]) == orientation_of([b"Exif\0\0Exif\0\0" + block]) == 5
        assert orientation_of([block[:-4]]) == orientation_of([block[:6]]) == 1  # cut off


def test_the_orientation_of_xmp_and_of_exif_written_as_text():
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    assert upright_size(saved(PICTURE, "JPEG", xmp=xmp)) == PICTURE.size[::-1]
    assert upright_size(saved(PICTURE, "JPEG", xmp=xmp, exif=exif(1))) == PICTURE.size
    texts = PngImagePlugin.PngInfo()
    body = exif(6)
    texts.add_text("Raw profile type exif", f"\nexif\n{len(body):8}\n{body.hex()}\n", zip=True)
    assert upright_size(saved(PICTURE, "PNG", pnginfo=texts)) == PICTURE.size[::-1]


@pytest.mark.parametrize("key", ["transparency", "bbox", "interlace", "exif", "xmp", "icc_profile"])
def test_a_text_with_the_name_of_something_else_is_only_a_text(key):
    texts = PngImagePlugin.PngInfo()
    texts.add_text(key, "7")
    data = saved(PICTURE, "PNG", pnginfo=texts)
    assert np.array_equal(pixels(data), pixels(saved(PICTURE, "PNG")))


def test_text_that_unpacks_to_gigabytes_is_not_unpacked():
    bomb = zlib.compress(bytes(1 << 23), 9)
    head, rest = saved(PICTURE, "PNG")[:33], saved(PICTURE, "PNG")[33:]
    body = b"zTXtComment\0\0" + bomb
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = head + chunk + rest
    assert np.array_equal(pixels(data), pixels(saved(PICTURE, "PNG")))
    assert max(map(len, bare(data)[1])) <= 1 << 20


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(form):
    frames = [Image.new("RGB", (24, 24), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert np.abs(pixels(data)[16, 16] - (250, 0, 0)).max() <= 8


def test_cmyk_of_adobe_keeps_its_colours():
    """The segment that says how the colours are stored is no metadata."""
    cmyk = Image.new("RGB", (24, 24), (200, 30, 90)).convert("CMYK")
    data = saved(cmyk, "JPEG", quality=95, exif=exif(1), icc_profile=PROFILE)
    assert np.abs(pixels(data)[16, 16] - (200, 30, 90)).max() <= 8


# --- transparency -------------------------------------------------------------------------------


def png(bits: int, colour: int, rows: list[bytes], transparent: bytes) -> bytes:
    """A PNG of 8 pixels in each row, whose transparent colour is given by a tRNS chunk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", 8, len(rows), bits, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", head) + chunk(b"tRNS", transparent) + chunk(b"IDAT", packed)
    return PNG + parts + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_gray_is_white_at_every_depth(bits):
    """The left half is transparent black, the right half a gray that is not."""
    other = {1: 0b1111, 2: 0b01010101, 4: 0x5555, 8: 0x55555555, 16: 0x5555555555555555}[bits]
    row = other.to_bytes(max(1, bits // 2 * 8 // 8), "big") if bits > 1 else bytes([other])
    row = bytes(bits // 2) + row if bits > 1 else row
    left, right = pixels(png(bits, 0, [row] * 8, b"\0\0"))[16, [4, 28], 0]
    assert left == 255 and abs(right - (255 if bits == 1 else 85)) <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_is_white_at_every_depth(bits):
    clear, solid = (7, 90, 201), (40, 80, 120)
    wide = [tuple(value * (257 if bits == 16 else 1) for value in rgb) for rgb in (clear, solid)]
    width = "H" if bits == 16 else "B"
    row = b"".join(struct.pack(f">3{width}", *rgb) * 4 for rgb in wide)
    left, right = pixels(png(bits, 2, [row] * 8, struct.pack(">3H", *wide[0])))[16, [4, 28]]
    assert left.tolist() == [255] * 3 and np.abs(right - solid).max() <= 1


def test_a_damaged_transparency_does_not_cost_the_picture():
    row = bytes((7, 90, 201) * 4 + (40, 80, 120) * 4)
    whole = png(8, 2, [row] * 8, struct.pack(">3H", 7, 90, 201))
    flipped = bytearray(whole)
    flipped[whole.find(b"tRNS") + 9] ^= 1
    damaged = [png(8, 2, [row] * 8, trns) for trns in (b"", b"\0\7")] + [bytes(flipped)]
    for data in damaged:
        assert np.abs(pixels(data)[16, [4, 28]] - [(7, 90, 201), (40, 80, 120)]).max() <= 1
    assert pixels(whole)[16, 4].tolist() == [255] * 3


def test_a_palette_that_nothing_needs_does_not_cost_the_picture():
    plain = saved(PICTURE, "PNG")
    chunk = b"\0\0\0\4PLTE" + b"four" + b"bad!"  # neither its length nor its checksum is right
    assert np.array_equal(pixels(plain[:33] + chunk + plain[33:]), pixels(plain))


# --- the reason reaches the user ----------------------------------------------------------------


def test_the_reason_of_an_unreadable_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("minidalle2.storage.decode.MOST_PIXELS", 1000)
    large = "it has 0 million pixels \\(48 x 36\\), and at most 0 million can be read; save it with"
    for data, reason in (
        (b"", "the file is empty; copy or download it again"),
        (b"text", "it has no known format, or its beginning is damaged; open it"),
        (saved(PICTURE, "PNG"), large),
        (saved(Image.new("RGB", (9, 9)), "EPS"), "the format EPS is not supported; open it"),
        (saved(PICTURE.crop((0, 0, 9, 9)), "JPEG")[:500], "it is cut off or damaged"),
    ):
        with pytest.raises(Unreadable, match=f"not a readable picture: {reason}"):
            square(data, SIDE)
        path = tmp_path / "a.png"
        path.write_bytes(data)
        for read in (load_png, lambda path: load_square(path, SIDE)):
            with pytest.raises(ValueError, match=f"a.png is not a readable picture: {reason}"):
                read(path)


def test_a_picture_that_pillow_refuses_has_its_number_of_pixels(monkeypatch):
    data = saved(Image.new("1", (1500, 1200)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800_000)  # Pillow refuses twice as many
    with pytest.raises(Unreadable, match="it has 2 million pixels, and at most 67 million"):
        square(data, SIDE)


def test_all_readers_turn_a_picture_and_make_transparency_white(tmp_path: Path):
    path = tmp_path / "a.png"
    clear = Image.new("RGBA", (48, 36), (9, 9, 9, 0))
    clear.save(path, exif=exif(6))
    assert load_png(path).shape == (3, 48, 36) and size_of(path) == (36, 48)
    assert load_png(path).min() == 1 and load_square(path, SIDE).min() == 255
    assert load_square(path, SIDE, paper="black").max() == 0


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("lost", [1, 30, 1_000])
def test_a_tiff_without_its_last_pixels_is_unreadable(large, lost):
    """The directory that is appended to the file must not be read as pixels."""
    data = saved(PICTURE, "TIFF", big_tiff=large, exif=exif(6))
    assert upright_size(data) == PICTURE.size[::-1]
    square(data, SIDE)
    with pytest.raises(Unreadable):
        square(data[:-lost], SIDE)
