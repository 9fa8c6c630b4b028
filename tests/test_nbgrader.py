"""A teacher's whole cycle with nbgrader itself: release, submissions, grades, feedback."""

import csv
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from minidalle2.teaching.students import EXERCISES, student_copy

pytest.importorskip("nbgrader", reason="nbgrader is not installed (extra `classroom`)")

NAME = "03_clip"
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "dalle2"
c.ExecutePreprocessor.timeout = 120
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\\nraise NotImplementedError()"}
"""


def nbgrader(course, *arguments: str) -> None:
    scripts = os.path.dirname(sys.executable)  # nbgrader calls alembic by its bare name
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with one released exercise: Ada submits the source, Bob an untouched copy."""
    course = tmp_path_factory.mktemp("course")
    (course / "nbgrader_config.py").write_text(CONFIG)
    (course / "source" / "ps").mkdir(parents=True)
    shutil.copy(EXERCISES / f"{NAME}.ipynb", course / "source" / "ps")
    nbgrader(course, "generate_assignment", "ps", "--create")
    for student, folder in (("ada", "source"), ("bob", "release")):
        submitted = course / "submitted" / student / "ps"
        submitted.mkdir(parents=True)
        shutil.copy(course / folder / "ps" / f"{NAME}.ipynb", submitted)
    nbgrader(course, "autograde", "ps", "--create")
    nbgrader(course, "generate_feedback", "ps")
    nbgrader(course, "export", "--to", "grades.csv")
    return course


def test_release_has_the_code_of_our_own_copies(course):
    def code(notebook):
        return [c.source.strip() for c in notebook.cells if c.cell_type == "code"]

    theirs = nbformat.read(course / "release" / "ps" / f"{NAME}.ipynb", as_version=4)
    ours = student_copy(nbformat.read(EXERCISES / f"{NAME}.ipynb", as_version=4))
    assert code(theirs) == code(ours)


def test_solutions_get_all_points_and_stubs_none(course):
    with (course / "grades.csv").open() as file:
        scores = {row["student_id"]: row for row in csv.DictReader(file)}
    assert float(scores["ada"]["score"]) == float(scores["ada"]["max_score"]) == 10
    assert float(scores["bob"]["score"]) == 0


def test_feedback_is_written_for_both(course):
    for student in ("ada", "bob"):
        page = course / "feedback" / student / "ps" / f"{NAME}.html"
        assert page.stat().st_size > 10_000
