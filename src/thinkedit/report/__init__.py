"""From records to a report: `summary.json`, tables, pictures and one self-contained page.

from thinkedit.report import Evidence, write_report
summary = write_report(Evidence(model="tiny", evaluation={"tiny": {"base": base, "edited": edited}}), directory)
"""

from thinkedit.report.evidence import Evidence
from thinkedit.report.write import write_figures, write_report, write_tables

__all__ = ["Evidence", "write_figures", "write_report", "write_tables"]
