"""Rows of metadata that are wrong: which are left out, why, and that all others are used."""

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from minidalle2.worlds.captions import MOST, BadCaption, caption_of_row, object_in
from minidalle2.worlds.folder.csv_rows import BadRow, Row, rows_of
from minidalle2.worlds.folder.metadata import read_metadata
from minidalle2.worlds.folder.names import folded
from minidalle2.worlds.folder.world import Folder
from minidalle2.worlds.report import Report
from minidalle2.worlds.shards.sample import caption_of

OPEN, MANY, FEW = "with a quote that is never closed", "with too many columns", "with too few"


def table(*lines: str) -> tuple[list[list[str]], list[tuple[int, str]]]:
    """CSV lines below file_name,text → the fields of the good rows, and (line, problem)."""
    rows = list(rows_of("\n".join(("file_name,text", *lines))))[1:]
    good = [row.fields for row in rows if isinstance(row, Row)]
    return good, [(row.line, row.problem) for row in rows if isinstance(row, BadRow)]


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_an_open_quote_costs_its_own_row_only(lines):
    """Whatever follows: nothing, a quoted text, a quote at an end, another open quote."""
    after = ["2.png,dot 2", '3.png,"three, dots"', '4.png,a 12"', '5.png,a 12" x 5" board'][:lines]
    good, bad = table("0.png,dot 0", '1.png,"5 foot dot', *after, "9.png,dot 9")
    assert bad == [(3, OPEN)]
    assert [fields[0] for fields in good] == ["0.png", *(row[:5] for row in after), "9.png"]
    assert good[2][1] == ("three, dots" if lines > 1 else "dot 9")


def test_several_open_quotes_are_all_named():
    good, bad = table('1.png,"5 foot', "2.png,two", '3.png,"7 foot', '4.png,"', "5.png,five")
    assert [line for line, _ in bad] == [2, 4, 5] and {problem for _, problem in bad} == {OPEN}
    assert good == [["2.png", "two"], ["5.png", "five"]]


def test_a_text_may_have_line_breaks_commas_and_quotes():
    good, bad = table('1.png,"a cat,', 'black and ""white"""', '2.png,""', "3.png,a 5'")
    assert good == [["1.png", 'a cat,\nblack and "white"'], ["2.png", ""], ["3.png", "a 5'"]]
    assert bad == []
    text_first = 'text,file_name\n"a cat\nsitting",1.png\n"open,2.png\nok,3.png'
    rows = list(rows_of(text_first))[1:]
    assert rows[0] == Row(2, ["a cat\nsitting", "1.png"]) and rows[2] == Row(5, ["ok", "3.png"])
    assert rows[1].line == 4 and rows[1].problem == OPEN


def test_rows_that_are_no_csv():
    good, bad = table(
        "1.png,a dot, number 1",
        "2.png",
        '3.png, "a dot, number 3"',
        '4.png,"a dot" number 4',
        "5.png,a dot,",
        "",
        "  ",
        ",",
        "6.png,six",
    )
    assert good == [["6.png", "six"]]
    spaced, letter = "with a space before a quote", "with a letter after a closing quote"
    assert bad == [(2, MANY), (3, f"{FEW} columns"), (4, spaced), (5, letter), (6, MANY)]


def test_many_open_quotes_take_no_quadratic_time():
    """A hundred thousand rows; with a search to the end for each it would take minutes."""
    good, bad = table(*(f'{i}.png,"open {i}' for i in range(100_000)), '0.png,""""')
    assert len(bad) == 100_000 and good == [["0.png", '"']]


# --- the same rules in all formats --------------------------------------------------------------


def from_jsonl(folder: Path, row: dict) -> str:
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", **row}))
    return from_metadata(folder)


def from_metadata(folder: Path) -> str:
    report = Report()
    found = read_metadata(folder, report)
    return found.get("a.png") or str(report)


def from_tar(row: dict) -> str:
    try:
        return caption_of(json.dumps(row).encode(), "json")
    except BadCaption as error:
        return f"{error.problem}: {error.remedy}"


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"text": "a cat"}, "a cat"),
        ({"caption": "a cat"}, "a cat"),
        ({"caption": "a dog", "text": "a cat"}, "a cat"),
        ({"text": "x" * MOST}, "x" * MOST),
        ({"text": "x" * (MOST + 1)}, "with a caption that is far too long"),
        ({"text": "é" * (MOST // 2 + 1)}, "with a caption that is far too long"),
        ({"text": ["a cat", "a dog"]}, 'with a list as its "text" instead of text'),
        ({"caption": 7}, 'with a number as its "caption" instead of text'),
        ({"text": 7.5}, 'with a number as its "text" instead of text'),
        ({"text": True}, 'with true or false as its "text" instead of text'),
        ({"text": None}, 'with null as its "text" instead of text'),
        ({"text": {"en": "a cat"}}, 'with an object as its "text" instead of text'),
        ({"text": " . "}, "with an empty caption"),
        ({"text": "\ud800"}, "with a caption that is not Unicode text"),
        ({"title": "a cat", "Text": "x"}, 'expected the key "text" or "caption", found '),
    ],
)
def test_json_lines_and_tar_files_agree(folder, row, outcome):
    ours = from_jsonl(folder, row)
    assert outcome in ours and outcome in from_tar(row)
    assert len(ours) < 400 or ours == outcome
    if "title" in row:
        assert "found file_name, title, Text" in ours and "found title, Text" in from_tar(row)


@pytest.mark.parametrize("length", [160_000, MOST, MOST + 1])
def test_csv_has_the_same_longest_text(folder, length):
    (folder / "metadata.csv").write_text(f"file_name,caption\na.png,{'x' * length}\n")
    expected = "x" * length if length <= MOST else "with a caption that is far too long"
    assert expected in from_metadata(folder)


@pytest.mark.parametrize(("second", "said"), [("a cat", False), ("a dog", True), (["b"], True)])
def test_a_second_caption_is_named(tmp_path, second, said):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    row = {"file_name": "a.png", "text": "a cat", "caption": second}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    report = Report()
    assert read_metadata(tmp_path, report) == {"a.png": "a cat"}
    text = '1 with a second caption that is not used (a.png): "text" is used; remove one of the two'
    assert str(report) == (text if said else "")


def test_keys_that_come_twice():
    with pytest.raises(BadCaption, match="with a key that comes twice"):
        object_in('{"text": "a cat", "text": "a dog"}')
    nested = '{"text": "a cat", "more": {"a": 1, "a": 2}, "url": []}'
    assert caption_of_row(object_in(nested)) == "a cat"


def test_bytes_that_are_not_utf8_cost_their_row_only(tmp_path):
    for i in range(4):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(tmp_path / f"{i}.png")
    csv = b"file_name,text\n0.png,null\n1.png,K\xe4se\n2.png,zwei\n\xff\xfe,x\n3.png,drei\n"
    lines = (json.dumps({"file_name": f"{i}.png", "text": "x"}).encode() for i in (0, 2, 3))
    jsonl = b"\n".join([*lines, b'{"file_name": "1.png", "text": "K\xe4se"}', b"\xff\xfe"])
    for name, data, where in (
        ("metadata.csv", csv, "1 missing (??)"),
        ("metadata.jsonl", jsonl, "1 with bytes that are not UTF-8 text (metadata.jsonl line 5)"),
    ):
        (tmp_path / name).write_bytes(data)
        report = Report()
        assert list(read_metadata(tmp_path, report)) == ["0.png", "2.png", "3.png"]
        assert "1 with a caption that is not Unicode text (1.png): " in str(report)
        assert "save it as UTF-8" in str(report) and where in str(report)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_utf16_is_named(folder, encoding, name):
    (folder / name).write_bytes("file_name,text\na.png,a cat\n".encode(encoding))
    with pytest.raises(ValueError, match=f"{name} is not UTF-8 text; save it as UTF-8"):
        from_metadata(folder)


def test_lines_end_at_line_ends_only(tmp_path):
    """Not at U+2028 or U+0085, in both formats. A lone carriage return is a line end, too."""
    texts = {"a.png": "one\u2028two", "b.png": "three\x85four", "c.png": "five\x0bsix"}
    for file in texts:
        Image.new("RGB", (9, 9)).save(tmp_path / file)
    for end in ("\n", "\r\n", "\r"):
        rows = [
            json.dumps({"file_name": f, "text": t}, ensure_ascii=False) for f, t in texts.items()
        ]
        (tmp_path / "metadata.jsonl").write_bytes(end.join(rows).encode())
        assert read_metadata(tmp_path, Report()) == texts
        (tmp_path / "metadata.jsonl").unlink()
        rows = ["file_name,text", *(f"{file},{text}" for file, text in texts.items())]
        (tmp_path / "metadata.csv").write_bytes(end.join(rows).encode())
        assert read_metadata(tmp_path, Report()) == texts
        (tmp_path / "metadata.csv").unlink()


# --- file names ---------------------------------------------------------------------------------


def with_files(folder: Path, files: list[str], names: list[str], table="metadata.jsonl") -> Path:
    for i, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (i, 0, 0)).save(folder / file, "PNG")
    rows = [json.dumps({"file_name": name, "text": f"text {i}"}) for i, name in enumerate(names)]
    (folder / table).parent.mkdir(parents=True, exist_ok=True)
    (folder / table).write_text("\n".join(rows))
    return folder


NFC = unicodedata.normalize("NFC", "café.png")
NFD = unicodedata.normalize("NFD", "café.png")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (NFC, NFD),
        (NFD, NFC),
        ("IMG_1.PNG", "img_1.png"),
        ("img/a.png", "img\\a.png"),
        ("Img/É.PNG", "img\\e\u0301.png"),
        ("straße.png", "STRASSE.png"),
        ("./b.png", ".\\B.png"),
        ("b.png", " b.png "),
        ("img/b.png", "img\\B.PNG "),
    ],
)
def test_a_name_that_is_spelled_otherwise(tmp_path, file, name):
    report = Report()
    assert list(read_metadata(with_files(tmp_path, [file], [name]), report)) == [
        Path(file).as_posix()
    ]
    assert not report.problems


def test_a_name_that_could_mean_several_files(tmp_path):
    files = ["A.png", "a.PNG", "b.png", "B.png"]
    with_files(tmp_path, files, ["a.png", "b.png", "B.PNG", "c.png"])
    if len(list(tmp_path.glob("*"))) < 5:
        pytest.skip("this file system does not distinguish between upper and lower case")
    report = Report()
    found = read_metadata(tmp_path, report)
    assert found == {"b.png": "text 1", "B.png": "text 2"}  # only one of the two was left
    assert "1 that can mean several files (a.png): " in str(report)
    assert "1 missing (c.png): " in str(report) and "write the exact name" in str(report)
    assert "2 without a line in the metadata (A.png, a.PNG): add a line" in str(report)


def test_the_exact_name_has_precedence(tmp_path):
    """In whatever order the lines are."""
    report = Report()
    found = read_metadata(with_files(tmp_path, ["a.png"], ["A.png", "a.png"]), report)
    if not (tmp_path / "A.png").exists():
        assert found == {"a.png": "text 1"} and str(report).startswith("1 missing (A.png)")


def test_a_file_system_that_knows_both_spellings(tmp_path, monkeypatch):
    """As on macOS and Windows, where A.png opens a.png. Simulated."""
    names = "minidalle2.worlds.folder.names"
    real = lambda path: Path(str(path).lower())  # noqa: E731
    monkeypatch.setattr(f"{names}._is_file", lambda path: real(path).is_file())
    monkeypatch.setattr(Path, "samefile", lambda path, other: real(path) == real(other))
    folder = with_files(Path(str(tmp_path).lower()), ["a.png"], ["A.PNG", "a.png"])
    report = Report()
    assert read_metadata(folder, report) == {"a.png": "text 0"}
    assert str(report).startswith("1 listed twice (a.png)") and len(report.problems) == 1


def test_other_spellings_do_not_lead_out_of_the_folder(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    names = [
        "..\\secret.png",
        "\\secret.png",
        "C:secret.png",
        "x\\..\\..\\SECRET.png",
        " ../secret.png",
    ]
    report = Report()
    folder = with_files(tmp_path / "f", ["a.png"], ["a.png", *names])
    assert list(read_metadata(folder, report)) == ["a.png"]
    assert str(report).startswith("5 outside the folder")


def test_folding_keeps_different_names_apart():
    assert len({folded(name) for name in ("a.png", "á.png", "b.png", "a/b.png", "ab.png")}) == 5


def test_a_name_with_undecodable_bytes_is_used(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    try:
        with_files(tmp_path / "f", ["a.png", name], ["a.png", name])
    except OSError:
        pytest.skip("this file system has Unicode names only")
    world = Folder(tmp_path / "f", tmp_path / "cache")
    assert world.files == ["a.png", name] and "left out" not in world.summary
    assert Folder(tmp_path / "f", tmp_path / "cache").files == world.files  # from the cache


# --- metadata that is not read ------------------------------------------------------------------


def test_metadata_more_than_one_folder_down(tmp_path):
    with_files(tmp_path, ["0.png"], ["0.png"])
    with_files(tmp_path, [], ["x.png"], "a/b/metadata.jsonl")
    with_files(tmp_path / "a/b", ["x.png", "c/y.png"], [], "c/metadata.csv")
    report = Report()
    assert list(read_metadata(tmp_path, report)) == ["0.png"]
    said = str(report)
    assert (
        "2 not read because it is more than one folder down (a/b/c/metadata.csv, a/b/metadata.jsonl"
        in said
    )
    assert f"open {tmp_path / 'a/b/c'} by itself, or move its lines to" in said
    assert "2 beside metadata that is not read (a/b/c/y.png, a/b/x.png): " in said
    assert "without a line" not in said


def test_only_metadata_that_is_not_read(tmp_path):
    with_files(tmp_path, ["a/b/x.png"], ["x.png"], "a/b/metadata.jsonl")
    with pytest.raises(ValueError, match="more than one folder down .a/b/metadata.jsonl.: open "):
        read_metadata(tmp_path, Report())
    (tmp_path / "metadata.parquet").touch()
    with pytest.raises(ValueError, match="its name .metadata.parquet.: save it as metadata.jsonl"):
        read_metadata(tmp_path, Report())


def test_other_captions_are_named_if_there_is_no_metadata(tmp_path):
    with_files(tmp_path, ["a.png", "b.png"], [], "captions.csv")
    for other in ("a.txt", "b.txt", "readme.txt"):
        (tmp_path / other).write_text("a cat")
    with pytest.raises(ValueError, match="no metadata.jsonl or metadata.csv") as error:
        read_metadata(tmp_path, Report())
    assert "1 not read because of its name (captions.csv): save it as metadata.j" in str(
        error.value
    )
    said = "2 not read because it is a text beside a picture (a.txt, b.txt): pack the folder, and"
    assert said in str(error.value)


def test_a_table_that_cannot_be_opened(tmp_path, monkeypatch):
    with_files(tmp_path, ["a.png"], ["a.png"])
    with_files(tmp_path, ["b/b.png"], [], "b/metadata.jsonl")
    opened = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    report = Report()
    assert list(read_metadata(tmp_path, report)) == ["a.png"]
    assert "1 not read because it can't be read (Permission denied) (b/metadata.jsonl)" in str(
        report
    )


def test_what_lies_beside_the_metadata_is_named(tmp_path):
    with_files(tmp_path, ["0.png"], ["0.png"])
    for other in ("metadata.csv", "metadata.parquet", "000.tar", "more.zip"):
        (tmp_path / other).write_text("file_name,text\n0.png,other\n")
    report = Report()
    assert read_metadata(tmp_path, report) == {"0.png": "text 0"}
    said = str(report)
    assert "1 not read because metadata.jsonl is beside it (metadata.csv): put all" in said
    assert "1 not read because of its name (metadata.parquet): save it as" in said
    assert "1 not read because it is packed (more.zip): unpack it" in said
    assert "1 not read because it is a tar file (000.tar): open" in said


def test_a_table_that_is_no_table_costs_its_own_pictures_only(tmp_path):
    with_files(tmp_path, ["a/0.png"], ["0.png"], "a/metadata.jsonl")
    (tmp_path / "b").mkdir()
    for content, said in (
        ("name;text\n0.png;x", "not read because it has the columns name;text (b/metadata.csv): "),
        ("file_name,text,text\n0.png,x,y", "not read because it has a column twice"),
        ("file_name, text\n0.png,x", 'has the columns file_name, " text" (b/metadata.csv)'),
        ('file_name,"text\n0.png,x', "not read because it begins with a line with a quote that"),
        ("", "not read because it has the columns (none)"),
    ):
        (tmp_path / "b/metadata.csv").write_text(content)
        report = Report()
        assert list(read_metadata(tmp_path, report)) == ["a/0.png"]
        assert said in str(report)


def test_a_picture_of_a_bad_row_is_counted_once(tmp_path):
    with_files(tmp_path, ["0.png", "1.png", "2.png"], [])
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text('file_name,text\n0.png,a, b\n1.png,"open\n2.png,x\n')
    report = Report()
    assert list(read_metadata(tmp_path, report)) == ["2.png"]
    assert "without a line" not in str(report) and len(report.problems) == 2


def test_a_picture_that_is_too_large_has_its_size_in_the_summary(tmp_path, monkeypatch):
    monkeypatch.setattr("minidalle2.storage.decode.MOST_PIXELS", 100)
    folder = with_files(tmp_path / "f", ["0.png", "1.png"], ["0.png", "1.png"])
    Image.new("RGB", (90, 80)).save(folder / "1.png")
    summary = Folder(folder, tmp_path / "cache").summary
    assert "1 with too many pixels (1.png): it has 0 million pixels (90 x 80), and at" in summary
