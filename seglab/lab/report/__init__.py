"""One self-contained page on a comparison of runs: tables, curves, confusion, cost, and a gallery of the images."""

from seglab.lab.report.gallery import ReadPair
from seglab.lab.report.page import refuse_other_files, write_report

__all__ = ["ReadPair", "refuse_other_files", "write_report"]
