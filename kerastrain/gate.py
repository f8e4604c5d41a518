"""The quality gate of a run: what is checked when, and what stops it."""

from dataclasses import dataclass

from kerastrain.config import RunConfig
from kerastrain.events import Recorder, refuse_findings
from kerastrain.fitting import Job
from kerastrain.prepare import Prepared
from kerastrain.shift import check_split
from kerastrain.timedrift import warn_of_time

__all__ = ["Gate"]


@dataclass(frozen=True)
class Gate:
    """Findings are events; with `strict` those that are warnings stop the run."""

    config: RunConfig
    recorder: Recorder

    def check_table(self) -> None:
        """After the profile, which has looked at the table."""
        self._refuse()

    def check_rows(self, data: Prepared, job: Job) -> None:
        """Before the first fit: parts that differ, a time that is not used."""
        has_test = "test" in job.own
        check_split(data, job.schema, has_test=has_test)
        if not has_test:
            warn_of_time(data, job.schema, seed=job.config.seed)
        self._refuse()

    def _refuse(self) -> None:
        if self.config.strict:
            refuse_findings(self.recorder.events)
