"""The page that a person reads: `write_report([Path("runs/quickstart")], Path("report.html"))`."""

from tacit.report.page import write_report

__all__ = ["write_report"]
