"""The report as one HTML page that needs no network.

Charts to explore, pictures, tables, claims, and where everything came from.
"""

from quadrate.experiments.page.page import report_page, write_report

__all__ = ["report_page", "write_report"]
