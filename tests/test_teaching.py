"""What the notebooks show with: figures, charts, explorers, and cleaning."""

import base64
import io
import json
import re
import subprocess
import sys
import threading

import matplotlib
import nbformat
import nbmake.nb_run
import pytest
import torch
import zmq.asyncio
from jupyter_client.channels import HBChannel
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image, ImageChops

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

from minidalle2.teaching import bands, execute  # noqa: E402
from minidalle2.teaching.begin import begin, size  # noqa: E402
from minidalle2.teaching.credits import show_credits  # noqa: E402
from minidalle2.teaching.data_path import STAGES, data_path  # noqa: E402
from minidalle2.teaching.explorer import Explorer  # noqa: E402
from minidalle2.teaching.figures import (  # noqa: E402
    film,
    film_of_figures,
    picture_grid,
    png_of,
    show_pictures,
    show_strips,
)
from minidalle2.teaching.kernel import PatientClient  # noqa: E402
from minidalle2.teaching.loss_chart import LossChart  # noqa: E402
from minidalle2.teaching.pairs import pair_figure  # noqa: E402
from minidalle2.teaching.plots import (  # noqa: E402
    CYCLE,
    WORN,
    cloud_figure,
    colour_of,
    plot_bars,
    plot_clouds,
    plot_lines,
    plot_matrix,
)
from minidalle2.teaching.source import show_source  # noqa: E402
from minidalle2.teaching.token_view import show_tokens, token_text  # noqa: E402
from minidalle2.tokenizer import Tokenizer  # noqa: E402
from minidalle2.worlds.emoji.names import data_folder  # noqa: E402
from minidalle2.worlds.emoji.words import STYLES  # noqa: E402
from minidalle2.worlds.shapes.drawing import COLOUR_RGB  # noqa: E402
from minidalle2.worlds.shapes.scenes import COLOURS  # noqa: E402


@pytest.fixture(autouse=True)
def no_windows():
    yield
    plt.close("all")


def is_png(data: bytes) -> bool:
    return Image.open(io.BytesIO(data)).format == "PNG"


def test_sizes(monkeypatch):
    monkeypatch.setenv("MINIDALLE2_FAST", "1")
    assert size(reader=10, ci=2) == 2
    monkeypatch.setenv("MINIDALLE2_FAST", "0")
    assert size(reader=10, ci=2) == 10


def test_begin_seeds_all_that_is_random(monkeypatch, capsys):
    def numbers() -> tuple[float, float]:
        _, generator = begin()
        return torch.rand(()).item(), torch.rand((), generator=generator).item()

    first = numbers()
    assert numbers() == first
    monkeypatch.setenv("MINIDALLE2_SEED", "1")
    assert numbers() != first
    assert "device:" in capsys.readouterr().out


def test_the_map_lights_known_stages_only():
    data_path()
    for stage in STAGES:
        data_path(stage)
    data_path("data")
    assert [t.get_text() for t in plt.gcf().axes[0].texts].count("you are here") == 3  # both ends
    with pytest.raises(ValueError, match="unknown stage 'prio'"):
        data_path("prio")


def test_every_plot_draws_and_names_its_axes():
    plot_lines({"a": (range(3), torch.rand(3)), "b": ([0, 1], [1, 2])}, "title", "x", "y")
    assert plt.gcf().axes[0].get_xlabel() == "x"
    plot_bars({"a": 0.5, "b": 1.0}, "title", "share", {"a": (0.4, 0.6), "b": (0.9, 1.0)}, ("c", 1))
    assert plt.gcf().axes[0].get_ylabel() == "share"
    plot_matrix(torch.eye(3), "title", ["a", "b", "c"], ["d", "e", "f"])
    plot_clouds({"a": torch.rand(5, 2), "b": {"c": torch.rand(5, 2), "d": torch.rand(4, 2)}}, 2)
    assert pair_figure(torch.eye(2), torch.eye(2)).axes


def test_clouds_wear_the_colour_that_they_are_named_after():
    assert colour_of("red", 3) == pytest.approx(COLOUR_RGB[COLOURS.index("red")].tolist())
    assert colour_of("circle", 1) == CYCLE[1]
    axes = cloud_figure({"blue": torch.rand(5, 2), "dog": torch.rand(5, 2)}, "t = 3", 2.0).axes[0]
    assert axes.collections[0].get_facecolor()[0][:3] == pytest.approx(WORN["blue"])
    assert axes.get_xlim() == (-2, 2) and axes.get_title(loc="left") == "t = 3"


def test_logarithmic_axes_have_plain_numbers():
    plot_lines({"a": ([0, 1], [0.02, 3.0])}, "title", "x", "y", log_y=True)
    axes = plt.gcf().axes[0]
    plt.gcf().canvas.draw()
    labels = [t.get_text() for t in axes.get_yticklabels() + axes.get_yticklabels(minor=True)]
    assert {"0.1", "0.5", "1", "2"} <= set(labels)


def test_pictures_and_strips():
    pictures = torch.rand(5, 3, 8, 8) * 2 - 1
    show_pictures(pictures, ["one"] * 5, columns=3, title="title")
    show_strips({"row": pictures, "other": pictures[:2]}, ["a", "b"])
    assert is_png(png_of(picture_grid(pictures)))


def test_films_are_animated_pngs():
    frames = [torch.full((3, 4, 4), value) for value in (-1.0, 0.0, 1.0)]
    made = film(frames, scale=2)
    picture = Image.open(io.BytesIO(made.data))
    assert (picture.format, picture.n_frames, picture.size) == ("PNG", 3, (8, 8))
    figures = [pair_figure(torch.eye(2), torch.eye(2), str(k)) for k in range(2)]
    assert Image.open(io.BytesIO(film_of_figures(figures).data)).n_frames == 2


def test_source_is_the_packages_own():
    shown = show_source(Tokenizer.decode, size).data
    assert "def decode(self" in shown and "`minidalle2.teaching.begin`" in shown


def test_credits_name_the_author_and_the_licence_of_each_style():
    shown = show_credits(*STYLES).data
    lines = [line for line in shown.splitlines() if line.startswith("- ")]
    owners = ("Google", "Google", "Twitter", "OpenMoji", "Microsoft", "Microsoft")
    licences = ("Apache-2.0", "Apache-2.0", "CC BY 4.0", "CC BY-SA 4.0", "MIT", "MIT")
    for line, style, owner, licence in zip(lines, STYLES, owners, licences, strict=True):
        assert line.startswith(f"- **{style}**: ") and owner in line and f"[{licence}](" in line
    assert "**Changes made" in shown and "recentred" in shown
    for target in re.findall(r"\]\((?!http)([^)]+)\)", shown):
        assert (data_folder().parents[1] / "notebooks" / target).is_file(), target
    assert "OpenMoji" not in show_credits("noto").data
    with pytest.raises(ValueError, match="unknown style crayon; the styles are noto, blob"):
        show_credits("noto", "crayon")
    with pytest.raises(ValueError, match="no style is named"):
        show_credits()


def test_tokens_are_shown_with_ids_spaces_and_bytes():
    tokenizer = Tokenizer([], [])
    shown = show_tokens(tokenizer, ["a <b>", "é"]).data
    assert "start" in shown and "·" in shown and "&lt;" in shown and "<b>" not in shown
    assert token_text(tokenizer, tokenizer.encode("é")[0]) == "⟨c3⟩"


def square(side: int, name: str = "red"):
    return picture_grid(torch.zeros(1, 3, side, side), [name])


def test_explorers_follow_their_controls():
    explorer = Explorer(square, side=[4, 8, 16], name=["red", "blue"])
    before = explorer.picture.value
    assert explorer.says.value == "side is 4, name is red"
    explorer.controls["name"].value = "blue"
    assert explorer.values == {"side": 4, "name": "blue"}
    assert explorer.picture.value != before and is_png(explorer.picture.value)


def test_explorers_may_start_in_the_middle_of_their_values():
    explorer = Explorer(square, {"side": 8}, side=[4, 8, 16], name=["red", "blue"])
    assert explorer.values == {"side": 8, "name": "red"}
    assert explorer.controls["side"].options == (4, 8, 16)


def test_explorers_carry_a_picture_for_pages_without_widgets():
    bundle = Explorer(square, side=range(4, 8))._repr_mimebundle_()
    assert is_png(base64.b64decode(bundle["image/png"]))
    assert bundle["text/plain"] == "Explorer: side is 4"


@pytest.fixture
def one_band(tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    bands.FILE.write_text(json.dumps({"known": {"low": [1.0, 0.5], "high": [2.0, 1.0]}}))


def chart_of(losses: list[float], name: str = "known") -> LossChart:
    with LossChart(name, len(losses), lambda: torch.zeros(3, 4, 4)) as chart:
        for loss in losses:
            chart.add(torch.tensor(loss))
    return chart


def test_a_loss_in_its_band_is_normal_and_one_above_is_not(one_band):
    assert chart_of([1.5] * 20 + [0.8] * 20).is_normal()
    assert chart_of([1.5] * 20 + [0.1] * 20).is_normal()
    assert not chart_of([1.5] * 20 + [3.0] * 20).is_normal()
    assert not chart_of([1.5] * 20 + [3.0] * 20 + [1.0] * 10).is_normal()  # full ones count
    assert not chart_of([1.5] * 60 + [3.0] * 20).is_normal()  # beyond the band its end counts
    assert chart_of([9.0] * 40, "unknown").is_normal()


def test_charts_draw_sheets_and_bands(one_band):
    chart = chart_of([1.5, 0.9] * 20)
    assert len(chart.sheets) == 4
    assert len(chart.figure().axes) == 2
    labels = chart.figure().axes[0].get_legend_handles_labels()[1]
    assert labels == ["where it should be", "your loss"]


def test_an_error_in_a_training_is_not_hidden_and_not_recorded(one_band, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDALLE2_RECORD", str(tmp_path))
    with pytest.raises(KeyError), LossChart("known", 2) as chart:
        chart.add(1.0)
        raise KeyError
    assert not (tmp_path / "known.jsonl").exists()
    chart_of([1.0] * 40)
    assert json.loads((tmp_path / "known.jsonl").read_text()) == [1.0, 1.0]


def test_bands_hold_all_runs_with_a_margin():
    assert bands.band_of([[1.0, 2.0], [3.0, 2.0]]) == {"low": [0.9, 1.8], "high": [3.3, 2.2]}


def test_bands_are_measured_by_running_notebooks_with_other_seeds(one_band, tmp_path, monkeypatch):
    def run(path, until):
        seed = float(__import__("os").environ["MINIDALLE2_SEED"])
        chart_of([seed] * 20, "new")

    for name in ("MINIDALLE2_SEED", "MINIDALLE2_RECORD"):
        monkeypatch.setenv(name, "0")  # so that they are put back
    monkeypatch.setattr(execute, "run", run)
    bands.measure([tmp_path / "any.ipynb"], seeds=2)
    assert bands.expected_band("new").high == [2.2]
    assert bands.expected_band("known").steps == [20, 40]


@pytest.fixture
def notebook(tmp_path):
    source = "from IPython.display import Image\nprint('one')\nprint('two')"
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source), new_code_cell("1 + 1")]), path)
    return path


def test_no_heart_beats_when_a_kernels_sockets_are_closed(notebook, monkeypatch):
    """A socket that a heartbeat opens just then is waited for without end."""
    beating = []

    def destroy(context, linger=None):
        beating.append(any(isinstance(thread, HBChannel) for thread in threading.enumerate()))
        destroyed(context, linger)

    destroyed = zmq.asyncio.Context.destroy
    monkeypatch.setattr(zmq.asyncio.Context, "destroy", destroy)
    execute.run(notebook)
    assert beating and not any(beating)


def test_nbmake_executes_with_the_same_client():
    assert nbmake.nb_run.NotebookClient is PatientClient


def test_executed_twice_is_the_same_to_the_byte(notebook):
    texts = []
    for _ in range(2):
        nbformat.write(execute.clean(execute.run(notebook)), notebook)
        texts.append(notebook.read_text())
    assert texts[0] == texts[1]
    cells = nbformat.read(notebook, as_version=4).cells
    assert len(execute.run(notebook, until="print").cells) == 1
    assert [cell.execution_count for cell in cells] == [1, 2]
    assert cells[0].outputs[0].text == "one\ntwo\n"


def test_cleaning_takes_widgets_and_times_away_but_leaves_pictures():
    png = base64.b64encode(png_of(square(32))).decode()
    data = {execute.WIDGET: {"model_id": "x"}, "image/png": png, "text/plain": "Explorer"}
    output = new_output("display_data", data=data, metadata={"image/png": {"width": 3}})
    cell = new_code_cell("x", outputs=[output], metadata={"execution": {"a": "b"}})
    dirty = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    cleaned = execute.clean(dirty)
    kept = cleaned.cells[0].outputs[0].data
    assert list(kept) == ["image/png", "text/plain"]
    assert Image.open(io.BytesIO(base64.b64decode(kept["image/png"]))).mode == "P"
    assert execute.smaller(kept["image/png"]) == kept["image/png"]
    moving = base64.b64encode(film([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)]).data).decode()
    assert execute.smaller(moving) == moving
    assert "execution" not in cleaned.cells[0].metadata and "widgets" not in cleaned.metadata


def test_figures_keep_their_colours_when_made_smaller():
    torch.manual_seed(0)
    noise = torch.rand(6, 3, 32, 32) * 2 - 1  # far more than 256 colours
    for pictures in (noise, torch.zeros(2, 3, 32, 32)):
        whole = png_of(picture_grid(pictures, ["title"] * len(pictures)))
        once = execute.smaller(base64.b64encode(whole).decode())
        assert execute.smaller(once) == once
        small = base64.b64decode(once)
        assert len(small) < 0.9 * len(whole)
        before, after = (Image.open(io.BytesIO(png)).convert("RGB") for png in (whole, small))
        assert max(high for _, high in ImageChops.difference(before, after).getextrema()) <= 8


def test_an_unknown_notebook_is_one_clear_line():
    done = subprocess.run(
        [sys.executable, "-m", "minidalle2.teaching.execute", "no.ipynb"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "there is no notebook at no.ipynb" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
