"""The bug museum keeps its word: with a room's bug in the package, the test it names fails.

The bugs are edited into copies of the package. Those of one copy touch different functions, so no
test fails for another's bug.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = next((ROOT / "notebooks").glob("*bug_museum.ipynb"))
TEST = re.compile(r"Caught by\s+`(test_\w+\.py::test_\w+)`")
THREAD = re.compile(
    r"\[[\w./-]+#(\d+)\]\(https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/(\d+)\)"
)

# room: (the test that it names, file of the package, the line as it is, the line with the bug)
BUGS = {
    1: (
        "test_dalle2.py::test_uint8",
        "storage/pictures.py",
        ".clamp(0, 255).round()",
        ".round().long().remainder(256)",
    ),
    2: (
        "test_sampling.py::test_only_x0_is_clipped",
        "diffusion/sampling.py",
        "clip(diffusion.to_x0(prediction, x, t_batch))",
        "diffusion.to_x0(prediction, x, t_batch)",
    ),
    3: (
        "test_export.py::test_png_round_trip_is_exact",
        "storage/pictures.py",
        "from_pillow(read(path, whole)) / 127.5 - 1",
        "from_pillow(read(path, whole)) / 255",
    ),
    4: (
        "test_clip.py::test_text_is_read_at_its_end",
        "clip.py",
        "(tokens == END).int().argmax(1)",
        "tokens.argmax(1)",
    ),
    5: (
        "test_clip.py::test_equal_captions_are_no_negatives",
        "clip.py",
        "if same_caption is not None:",
        "if False:",
    ),
    6: (
        "test_prior.py::test_scale",
        "prior.py",
        "self.scale = DEVIATION * config.clip_embedding**0.5",
        "self.scale = 1.0",
    ),
    7: (
        "test_prior.py::test_every_input_matters_for_its_own_row",
        "prior.py",
        "self.image_projection(z_noised),",
        "0 * self.image_projection(z_noised),",
    ),
    8: (
        "test_prior.py::test_padding_never_matters",
        "prior.py",
        "real = F.pad(tokens != PAD,",
        "real = F.pad(tokens != -1,",
    ),
    9: (
        "test_prior.py::test_dropping_loses_all_text_and_nothing_else",
        "prior.py",
        "tokens = torch.where(drop[",
        "drop = torch.zeros_like(drop); tokens = torch.where(drop[",
    ),
    10: (
        "test_guidance.py::test_scale_convention",
        "diffusion/guidance.py",
        "return unconditional + scale",
        "return conditional + scale",
    ),
    11: (
        "test_decoder.py::test_guidance_one_and_zero",
        "decoder.py",
        "bind(~keep), guidance, CHANNELS, ",
        "bind(~keep), guidance, CHANNELS - 1, ",
    ),
    12: (
        "test_schedule.py::test_first_and_last_timestep",
        "diffusion/schedule.py",
        "return torch.linspace(total - 1, lowest, steps, dtype=torch.float64).round().long()",
        "return torch.arange(steps).flip(0) * (total // steps)",
    ),
    13: (
        "test_sampling.py::test_perfect_denoiser_gives_x0_back",
        "diffusion/sampling.py",
        ".tolist() + [1.0]",
        ".tolist() + [diffusion.schedule.alpha_bar[0].item()]",
    ),
    14: (
        "test_variance.py::test_logarithms_are_interpolated",
        "diffusion/variance.py",
        "return share * large + (1 - share) * small",
        "return (share * large.exp() + (1 - share) * small.exp()).log()",
    ),
    15: (
        "test_schedule.py::test_linear_is_rescaled",
        "diffusion/schedule.py",
        "scale = 1000 / steps",
        "scale = 1.0",
    ),
    16: (
        "test_ema_and_optimizer.py::test_initial_weights_are_forgotten",
        "training/ema.py",
        "decay = min(self.decay, (1 + step) / (10 + step))",
        "decay = self.decay",
    ),
    17: (
        "test_checkpoints.py::test_missing_and_foreign_tensors",
        "storage/checkpoints.py",
        "    if expected != found:",
        "    model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)\n"
        "    return model\n    if expected != found:",
    ),
}
COPIES = ((1, 2, 4, 9, 11, 14, 15, 16, 17), (3, 5, 7, 10, 12), (6, 8, 13))


def rooms() -> list[str]:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return [c.source for c in cells if re.match(r"## \d+ · ", c.source)]


def test_every_room_names_its_test_and_a_thread():
    assert [int(room.split()[1]) for room in rooms()] == list(BUGS)
    for room, (test, *_) in zip(rooms(), BUGS.values(), strict=True):
        assert TEST.findall(room) == [test]
        numbers = THREAD.findall(room)
        assert numbers and all(name == address for name, address in numbers)
        assert room.count("https://github.com/") == len(numbers)


def test_the_closing_table_names_the_same_tests():
    source = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    listed = re.search(r"CAUGHT_BY = \[(.*?)\]", source, re.DOTALL).group(1)
    assert re.findall(r'"(\S+)"', listed) == [test for test, *_ in BUGS.values()]


def with_bugs(copy: Path, numbers: tuple[int, ...]) -> Path:
    """A copy of the package with those bugs, and of the tests that they name."""
    shutil.copytree(
        ROOT / "minidalle2",
        copy / "minidalle2",
        ignore=shutil.ignore_patterns("weights", "*pycache*"),
    )
    (copy / "tests").mkdir()
    for name in {
        "conftest.py",
        "recorded_bars.py",
        "tiny_model.py",
        *(BUGS[n][0].split("::")[0] for n in numbers),
    }:
        shutil.copy(ROOT / "tests" / name, copy / "tests")
    for number in numbers:
        _, file, line, bug = BUGS[number]
        path = copy / "minidalle2" / file
        text = path.read_text(encoding="utf-8")
        assert line in text, f"room {number}: no {line!r} in {file}"
        path.write_text(text.replace(line, bug), encoding="utf-8")
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("numbers", COPIES, ids=str)
def test_each_named_test_catches_its_bug(tmp_path, numbers):
    copy = with_bugs(tmp_path, numbers)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rf",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(copy),
            "-o",
            "addopts=",
            "-o",
            f"pythonpath={copy}",
            *(f"tests/{BUGS[n][0]}" for n in numbers),
        ],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    failed = {
        line.split()[1].split("[")[0] for line in done.stdout.splitlines() if "FAILED" in line
    }
    assert failed == {f"tests/{BUGS[n][0]}" for n in numbers}, done.stdout + done.stderr
