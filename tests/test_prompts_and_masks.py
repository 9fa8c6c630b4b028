"""What a prompts file and a mask are read as, and why a mask can't be used."""

import numpy as np
import pytest
from PIL import Image

from minidalle2.commands.draw import read_prompts
from minidalle2.commands.inpaint import read_mask


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_prompts_are_split_at_line_ends_only(tmp_path, end):
    """Not where str.splitlines also splits: U+2028, U+2029, U+0085 and some control characters."""
    prompts = ["one\u2028two\u2029three", "four\x85five", "six\x0bseven\x0ceight\x1cnine", "ten"]
    lines = [*prompts[:2], "", "# a comment\u2028still a comment", "   ", *prompts[2:]]
    path = tmp_path / "prompts.txt"
    for last in ("", end):
        path.write_bytes(b"\xef\xbb\xbf" + (end.join(lines) + last).encode())
        assert read_prompts(["given"], path) == ["given", *prompts]


def test_the_line_that_is_no_text_is_named(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"a cat\nein Hund\nein W\xfcrfel\n")
    with pytest.raises(ValueError, match=r"p\.txt is no UTF-8 text \(line 3\); save it as UTF-8"):
        read_prompts([], tmp_path / "p.txt")


def mask(levels: list[int], mode: str = "L") -> Image.Image:
    """Vertical stripes of these gray values, 64 x 64."""
    row = np.repeat(np.array(levels), 64 // len(levels))
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    return Image.fromarray(np.tile(row, (64, 1)).astype(kind))


def known(tmp_path, picture: Image.Image, form: str = "png") -> list[bool]:
    """What is kept in the middle of the left and of the right half."""
    picture.save(tmp_path / f"mask.{form}")
    Image.new("RGB", picture.size).save(tmp_path / "cat.png")
    read = read_mask(tmp_path / f"mask.{form}", [tmp_path / "cat.png"])
    assert read.shape == (1, 1, 128, 128)
    return read[0, 0, 64, [32, 96]].tolist()


@pytest.mark.parametrize(
    "picture",
    [
        mask([0, 255]),
        mask([0, 65535], "I;16"),
        mask([0, 255]).convert("1"),
        mask([0, 255]).convert("RGB").quantize(2),
        mask([127, 128]),
    ],
    ids=["8 bits", "16 bits", "1 bit", "palette", "around the threshold"],
)
def test_white_is_redrawn_at_every_depth(tmp_path, picture):
    assert known(tmp_path, picture) == [True, False]


def test_white_on_transparent_is_named(tmp_path):
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    painted = clear.copy()
    painted.paste((255, 255, 255, 255), (20, 20, 40, 40))
    for picture in (painted, clear):
        with pytest.raises(
            ValueError, match="mask.png is completely white .* its transparent part"
        ):
            known(tmp_path, picture)
    painted.save(tmp_path / "mask.png")
    on_black = Image.alpha_composite(Image.new("RGBA", (64, 64), "black"), painted)
    on_black.paste("white", (40, 0, 64, 64))
    assert known(tmp_path, on_black.convert("RGB")) == [True, False]  # the remedy works
    with pytest.raises(ValueError, match="completely white in its square centre; paint white"):
        known(tmp_path, mask([255]))


@pytest.mark.parametrize(
    ("picture", "lightest"),
    [(mask([0, 1]), 1), (mask([100]), 100), (mask([0, 1]).convert("RGB"), 1)],
)
def test_a_mask_without_white_has_its_lightest_value_named(tmp_path, picture, lightest):
    sentence = f"has nothing white .* its lightest pixel has the value {lightest}, and white are"
    with pytest.raises(
        ValueError, match=f"{sentence} the values from 128 to 255; save it with 255"
    ):
        known(tmp_path, picture)
    with pytest.raises(ValueError, match="has nothing white in its square centre; paint white"):
        known(tmp_path, mask([0]))


def test_the_reason_of_an_unreadable_mask(tmp_path, monkeypatch):
    monkeypatch.setattr("minidalle2.storage.decode.MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="mask.png is not a readable picture: it has 0 million"):
        known(tmp_path, mask([0, 255]))
