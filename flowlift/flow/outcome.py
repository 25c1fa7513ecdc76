"""How a flow ended: one code and one sentence, kept with the result and counted."""

import enum


class Outcome(enum.StrEnum):
    """Result code of a flow. What counts as a success is `reached`, and is defined here only."""

    HORIZON = "horizon"
    LOSS_BELOW = "loss below"
    GRADIENT_BELOW = "gradient below"
    STAGNATION = "stagnation"
    RULE = "rule"
    BUDGET = "budget"
    STEP_LIMIT = "step limit"
    INTERRUPTED = "interrupted"
    NON_FINITE = "non-finite"
    TIME_UNDERFLOW = "time underflow"
    NO_PROGRESS = "no progress"
    SOLVER_FAILURE = "solver failure"
    NOT_SYMMETRIC = "not symmetric"
    OUT_OF_MEMORY = "out of memory"
    WORKER_CRASHED = "worker crashed"
    EXCEPTION = "exception"

    @property
    def reached(self) -> bool:
        """Whether the flow ended where it was asked to: at the horizon or by a stopping rule."""
        return self in _REACHED

    @property
    def failed(self) -> bool:
        """Whether the solver could not go on.

        A spent budget is neither reached nor failed, nor is a flow that somebody interrupted.
        """
        return self in _FAILED

    @property
    def sentence(self) -> str:
        """What happened and what to change."""
        return _SENTENCES[self]


_REACHED = frozenset(
    {Outcome.HORIZON, Outcome.LOSS_BELOW, Outcome.GRADIENT_BELOW, Outcome.STAGNATION, Outcome.RULE}
)
# A run of a study can also fail around its flow: those have no solver to blame.
_FAILED = frozenset(
    {Outcome.NON_FINITE, Outcome.TIME_UNDERFLOW, Outcome.NO_PROGRESS}
    | {Outcome.SOLVER_FAILURE, Outcome.NOT_SYMMETRIC}
    | {Outcome.OUT_OF_MEMORY, Outcome.WORKER_CRASHED, Outcome.EXCEPTION}
)
_SENTENCES = {
    Outcome.HORIZON: "The flow was integrated to the horizon.",
    Outcome.LOSS_BELOW: "The loss fell to the threshold of LossBelow.",
    Outcome.GRADIENT_BELOW: "The gradient norm fell to the threshold of GradientNormBelow.",
    Outcome.STAGNATION: "The loss stagnated in the sense of Stagnation.",
    Outcome.RULE: "A stopping rule of one's own held.",
    Outcome.BUDGET: "The budget of gradient evaluations is spent; raise `max_gradients`, loosen "
    "`rtol`, or continue this solution with `flow.resume`.",
    Outcome.STEP_LIMIT: "The limit of attempted steps was met; raise `max_steps`, loosen `rtol`, "
    "or choose a solver for stiff problems.",
    Outcome.INTERRUPTED: "The flow was interrupted, as by Ctrl-C; continue this solution with "
    "`flow.resume`, or by the same call where `checkpoints` names a file.",
    Outcome.NON_FINITE: "The loss or its gradient is not finite there, or the flow explodes; check "
    "the data and the weights' scale, or lower `rtol` if an explicit step overflowed.",
    Outcome.TIME_UNDERFLOW: "The step size fell below the resolution of time; the field is not "
    "smooth there: loosen `rtol`, or use float64.",
    Outcome.NO_PROGRESS: "At the pace of the last 1024 attempted steps, doubling the time would "
    "take millions: the field jumps or is singular there, or the flow is far too stiff for an "
    "explicit solver; stop the flow earlier, or choose another solver.",
    Outcome.SOLVER_FAILURE: "The solver's own equations could not be solved; choose another "
    "solver or lower `rtol`.",
    Outcome.NOT_SYMMETRIC: "The Jacobian of the field is not symmetric, so that the field is no "
    "gradient (a custom derivative in the loss?); correct the derivative, or choose a solver "
    "for any field, such as 'tsit5'.",
    Outcome.OUT_OF_MEMORY: "The memory did not suffice; use fewer workers, a smaller lift, or the "
    "argument `memory` of `solve`.",
    Outcome.WORKER_CRASHED: "The process that computed the run died twice, the second time alone; "
    "it was killed, ran out of memory or crashed.",
    Outcome.EXCEPTION: "An exception ended the run.",
}


class FlowError(RuntimeError):
    """Raised by `solve(..., throw=True)` for an outcome that was not reached.

    Attributes:
        solution: what was computed so far, a `FlowSolution`.
    """

    def __init__(self, solution):
        super().__init__(solution.message)
        self.solution = solution


class FlowInterrupted(KeyboardInterrupt):
    """Raised on Ctrl-C in a flow, with what was computed; a `KeyboardInterrupt` like any other.

    Attributes:
        solution: of the flow up to its last leg, a `FlowSolution` that `resume` goes on from.
        solutions: of flows side by side, those that were under way and those that had ended but
            not been given yet, in their order; else `solution` alone.
    """

    def __init__(self, solution, solutions=None):
        super().__init__(solution.message)
        self.solution = solution
        self.solutions = (solution,) if solutions is None else tuple(solutions)
