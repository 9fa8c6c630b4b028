"""The committed notebooks: executed, clean, current, and built as the series promises.

That they still run is checked by nbmake, which executes each of them at CI size.
"""

import re
import statistics
from pathlib import Path

import nbformat
import pytest

from minidalle2.teaching.execute import WIDGET, clean, source_sha

ROOT = Path(__file__).parent.parent
SERIES = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXERCISES = sorted((ROOT / "notebooks" / "exercises").glob("*.ipynb"))
NOUNS = (
    "00_the_whole_machine",
    "01_data",
    "02_tokens",
    "03_clip",
    "04_clip_space",
    "05_clip_variants",
    "06_diffusion",
    "07_prior",
    "08_autoregressive_prior",
    "09_decoder",
    "10_upsamplers",
    "11_text_to_image",
    "12_manipulations",
    "13_probing",
    "14_evaluation_and_guidance",
    "15_real_pictures",
    "16_text_to_emoji",
    "17_your_own_folder",
    "18_scaling_up",
    "19_bug_museum",
)
MOST_BYTES = 1_000_000
MOST_WORDS = 75  # between two code cells; about 60 is the aim
BARE_HEADINGS = ("## Checked", "## The package's own", "## Every intermediate of one prompt")
LOCAL_PATH = re.compile(r"/home/|/root/|/work/|/tmp/|/Users/|[A-Z]:\\\\")
# Training that short shows nothing, or there is nothing to train.
WITHOUT_TRAINING = (
    "00_the_whole_machine",
    "02_tokens",
    "11_text_to_image",
    "12_manipulations",
    "13_probing",
    "14_evaluation_and_guidance",
    "15_real_pictures",
    "16_text_to_emoji",
    "18_scaling_up",
    "19_bug_museum",
)
WITHOUT_BAND = ("17_your_own_folder",)  # how many steps ten minutes are depends on the machine


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def lines_of(cell) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def prose_between_code(path: Path) -> list[int]:
    """Words of each stretch of prose, headings and formulae included."""
    words = [0]
    for cell in read(path).cells:
        if cell.cell_type == "code":
            words.append(0)
        else:
            words[-1] += len(cell.source.split())
    return words


def shows_picture(cell) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


each_notebook = pytest.mark.parametrize("path", SERIES + EXERCISES, ids=lambda path: path.name)
each_of_the_series = pytest.mark.parametrize("path", SERIES, ids=lambda path: path.name)


def test_the_series_is_complete():
    assert [path.stem for path in SERIES] == list(NOUNS)
    assert [path.stem for path in EXERCISES] == list(NOUNS[1:])


@each_notebook
def test_committed_outputs_are_true(path):
    text, notebook = path.read_text(encoding="utf-8"), read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert all(cell.get("id") for cell in notebook.cells)
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "widgets" not in notebook.metadata and WIDGET not in text
    assert notebook.metadata.kernelspec.name == "python3"
    assert not LOCAL_PATH.search(text)
    assert len(text.encode()) <= MOST_BYTES
    assert notebook.metadata.minidalle2.source_sha == source_sha(notebook), (
        "its outputs are of an older source; run `python dev.py notebooks` on it"
    )


@each_notebook
def test_cleaning_a_clean_notebook_changes_nothing(path):
    before = read(path)
    device = dict(before.metadata.minidalle2)
    after = clean(read(path))
    after.metadata.minidalle2.update(device)  # of the machine that executed it
    assert after == before


@each_of_the_series
def test_first_picture_within_twenty_lines(path):
    lines = 0
    for cell in code_cells(path)[1:]:  # the first one is for Colab
        lines += lines_of(cell)
        if shows_picture(cell) or any("text/html" in o.get("data", {}) for o in cell.outputs):
            break
    assert lines <= 20


@each_of_the_series
def test_pictures_cells_and_prose_have_their_sizes(path):
    cells = code_cells(path)
    assert 6 <= sum(map(shows_picture, cells)) <= 20
    assert statistics.median(map(lines_of, cells)) <= 8
    assert max(map(lines_of, cells)) <= 25
    assert max(prose_between_code(path)) <= MOST_WORDS


@each_of_the_series
def test_sections_begin_with_words(path):
    cells = read(path).cells
    for cell in cells:
        if cell.source.startswith("## ") and cell.cell_type == "markdown":
            assert len(cell.source.split()) > 8 or cell.source in BARE_HEADINGS, cell.source


@each_notebook
def test_prose_is_headings_and_whole_sentences(path):
    """A placeholder has no full stop."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            last = cell.source.strip().splitlines()[-1]
            assert last.startswith("#") or last.rstrip("*_`)|$")[-1] in ".?!:", cell.source


@each_of_the_series
def test_follows_the_plan(path):
    notebook = read(path)
    first = " ".join(notebook.cells[0].source.split())
    source = "\n".join(cell.source for cell in code_cells(path))
    assert first.startswith(f"# {path.stem[:2]} · ") and "Takes " in first
    assert "CPU core" in first and "GPU" in first
    assert "At the end you can" in first
    assert "data_path(" in source
    assert "Explorer(" in source
    assert "assert " in code_cells(path)[-1].source
    if path.stem != "00_the_whole_machine":
        assert "show_source(" in source
        assert any(cell.source.startswith("## Break it") for cell in notebook.cells)
        assert f"exercises/{path.name}" in notebook.cells[-1].source
    if path.stem not in WITHOUT_TRAINING:
        assert "LossChart(" in source
        assert "is_normal()" in source or path.stem in WITHOUT_BAND


@each_of_the_series
def test_explorers_leave_a_picture_and_come_after_one(path):
    cells = code_cells(path)
    for i, cell in enumerate(cells):
        if re.search(r"^Explorer\(", cell.source, re.MULTILINE):
            assert shows_picture(cell)
            assert any(map(shows_picture, cells[max(0, i - 3) : i]))  # a static strip before it


@each_of_the_series
def test_links_lead_somewhere(path):
    for cell in read(path).cells:
        for target in re.findall(r"\]\(([^)#:]+)\)", cell.source):
            assert (path.parent / target).exists(), target


@each_notebook
def test_set_up_cell_may_run_again(path):
    source = code_cells(path)[0].source
    assert source.startswith("try:\n    import minidalle2") and "%pip install" in source
    assert " -e " not in source
