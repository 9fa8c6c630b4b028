"""The definition of the emoji world for the commands."""

from minidalle2.worlds.definition import Definition, Exporter, Report
from minidalle2.worlds.emoji.evaluation.report import ON_REQUEST, SHEETS, WHAT, evaluate
from minidalle2.worlds.emoji.export import export
from minidalle2.worlds.emoji.judge import JUDGE
from minidalle2.worlds.emoji.names import licences
from minidalle2.worlds.emoji.requests import advice
from minidalle2.worlds.emoji.splits import check_split
from minidalle2.worlds.emoji.world import Emoji

EMOJI = Definition(
    open=Emoji,
    judge=JUDGE,
    report=Report(WHAT, evaluate, probes=ON_REQUEST, sheets=SHEETS),
    exporter=Exporter(check_split, export),
    licences=licences,  # shared weights must credit the artists
    advice=advice,
)
