"""A run folder as one self-contained HTML page, and as a small card for a notebook."""

from kerastrain.report.card import card
from kerastrain.report.page import write_report

__all__ = ["card", "write_report"]
