"""Why a step or a run does not come to a good end."""

from __future__ import annotations

from domains.workflow.definition import Json


class StepFailure(Exception):
    """A step did not do what it was to do; `permanent`: to try again would change nothing."""

    def __init__(
        self, code: str, message: str, *, result: Json = None, permanent: bool = False
    ) -> None:
        """Say why; `result` is what it came to all the same."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.result = result
        self.permanent = permanent


class RunFailure(Exception):
    """A run cannot go on; `step_id` is the step that failed, where one did."""

    def __init__(self, code: str, message: str, step_id: str | None = None) -> None:
        """Say why."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.step_id = step_id
