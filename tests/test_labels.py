"""Labels of a grid in any script, without a font of the system."""

import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from PIL import ImageFont

import minidalle2
from minidalle2.commands.results import Drawn, say_where
from minidalle2.storage import labels
from minidalle2.storage.labels import CHINESE, LATIN, length, runs, shown, without_font, wrap
from minidalle2.storage.pictures import labelled_grid
from minidalle2.worlds.emoji.names import names
from minidalle2.worlds.emoji.words import BACKGROUNDS, KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(minidalle2.__file__).parent


@pytest.fixture(autouse=True)
def no_system_fonts(monkeypatch):
    labels.font_of.cache_clear()
    monkeypatch.setattr(labels, "system_fonts", lambda: ())
    yield
    labels.font_of.cache_clear()


def level_one() -> str:
    """The 3,755 most common Chinese characters, by GB 2312."""
    pairs = [(row, column) for row in range(0xB0, 0xD8) for column in range(0xA1, 0xFF)]
    return b"".join(map(bytes, pairs)).decode("gb2312", "ignore")


def test_common_characters_need_no_font_of_the_system():
    assert len(level_one()) == 3755 and without_font([level_one()]) == ""
    assert without_font(["Żółta gęś, ĞİŞ, đường, ñandú, ångström, œuvre – „“ … € ½ ² °"]) == ""
    assert (
        without_font(
            [
                "Tiếng Việt, Ċ ħ ŵ ǎ ẞ, Ελληνικά ἀρχή, українська: ґ",
                "«κόκκινο», красный, りんご, リンゴ，。、！？：；（）《》“”·—",
            ]
        )
        == ""
    )


def test_the_font_has_the_chinese_captions_of_the_emoji_world():
    captions = [text for name in names() for text in (name.name_zh, *name.keywords_zh)]
    captions += [zh for zh, _ in BACKGROUNDS.values()] + [zh for _, zh in KINDS.values()]
    for file in ("chinese.txt", "things.txt", "sayings.txt"):
        captions += (PACKAGE / "worlds" / "emoji" / file).read_text(encoding="utf-8").splitlines()
    assert without_font(captions) == ""


def test_the_fonts_are_small_and_their_licence_is_beside_them():
    assert LATIN.stat().st_size + CHINESE.stat().st_size <= 2_000_000
    for name in ("OFL.txt", "README.md"):
        text = (LATIN.parent / name).read_text("utf-8")
        assert LATIN.name in text and CHINESE.name in text
        assert "Google LLC" in text and "Adobe" in text
    assert "SIL OPEN FONT LICENSE" in (LATIN.parent / "OFL.txt").read_text("utf-8")


def test_the_fonts_are_part_of_the_wheel():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["minidalle2"]
    for path in LATIN.parent.iterdir():
        name = path.relative_to(PACKAGE).as_posix()
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_each_word_gets_the_first_font_that_has_it():
    own, latin, chinese = labels.fonts()
    assert all(labels.has(font, "a") and not any(font.getmask(" ")) for font in labels.fonts())
    assert runs("dog 红苹果 cat") == [(own, "dog "), (chinese, "红苹果 "), (own, "cat")]
    assert runs("a łódź, café") == [(own, "a "), (latin, "łódź, café")] and runs("") == []
    assert length("dog 红") == own.getlength("dog ") + chinese.getlength("红")
    assert runs("noto红") == [(chinese, "noto红")]
    assert runs("𐍈x") == [(own, "𐍈x")]  # no font has the first letter: a box


def test_a_mark_stays_with_its_letter():
    own = labels.fonts()[0]
    assert [part for _, part in runs("が")] == ["が"]
    assert runs("नमस्ते") == [(own, "नमसत")]  # boxes, without the marks


def test_what_no_font_has_is_said_once(capsys, tmp_path):
    assert without_font(["apple 🍎", "🍎 한국어"]) == "🍎한국어"
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for label, said in (("🍎 red 🍎", True), ("红苹果", False)):
        say_where([Drawn("0000_x.png", label, {}, picture)], 1, 8, 0.1, tmp_path)
        out = capsys.readouterr().out
        assert ("grid.png shows boxes, because no font on this computer has: 🍎\n" in out) == said


def test_fonts_of_the_system_come_last(monkeypatch):
    other = ImageFont.truetype(CHINESE, labels.SIZE)  # stands for a font with Korean letters
    monkeypatch.setattr(labels, "system_fonts", lambda: (other,))
    monkeypatch.setattr(labels, "has", lambda font, c: font is other or c == "a")
    assert runs("a 한") == [(labels.fonts()[0], "a "), (other, "한")]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("cafe\u0301", "café"),
        ("❤\ufe0f", "❤"),
        ("a\u200d\u202eb", "ab"),
        ("a\tb\x00", "a b "),
        ("\udce9.png", "\ufffd.png"),
    ],
)
def test_what_has_no_glyph_is_not_drawn(text, seen):
    assert shown(text) == seen


def test_a_chinese_label_is_drawn_as_ink_and_not_as_boxes():
    picture = torch.full((3, 128, 128), 200, dtype=torch.uint8)
    one, other = (labelled_grid([(text, [picture])], 1) for text in ("红苹果", "蓝飞机"))
    assert one.size == other.size and one.tobytes() != other.tobytes()
    assert one.crop((0, 142, 152, 160)).getextrema()[0][0] < 100


def test_a_name_of_undecodable_bytes_can_be_a_label():
    picture = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    labelled_grid([("\udce9.png and variations", [picture]), ("", [picture])], 2)
    assert wrap("", 100) == [""] and wrap("\x00", 100) == [""]
