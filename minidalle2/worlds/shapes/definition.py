"""The definition of the shapes world for the commands."""

from minidalle2.worlds.definition import Definition, Exporter, Report
from minidalle2.worlds.shapes.evaluation.prompts import prompt_row
from minidalle2.worlds.shapes.evaluation.report import PROBES, WHAT, evaluate
from minidalle2.worlds.shapes.export import check_split, export
from minidalle2.worlds.shapes.judge import JUDGE
from minidalle2.worlds.shapes.world import Shapes

SHAPES = Definition(
    open=Shapes,
    judge=JUDGE,
    report=Report(WHAT, evaluate, prompt_row, PROBES),
    exporter=Exporter(check_split, export),
)
