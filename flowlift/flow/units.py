"""What is recorded of a flow, in words, and in which units."""

# Variable: meaning, unit. Loss and time are in units of the task's own loss, as stated there.
ALONG = {
    "loss": ("loss L", "loss"),
    "gradient_norm": ("gradient norm |grad L|, with rates |D^(1/2) grad L|", "loss / parameter"),
    "arc_length": ("arc length, the integral of |d theta/dt| dt", "parameter"),
    "energy": ("energy, the integral of -dL/dt along the flow", "loss"),
    "distance": ("distance |theta(t) - theta(0)|", "parameter"),
}
TIME = {
    "long_name": "flow time t",
    "units": "learning rate × steps",
}
LOG_TIME = {"long_name": "log(1 + t), t the flow time", "units": "1"}
AT_THE_END = {
    "end_time": ("flow time reached", TIME["units"]),
    "result": ("how the flow ended", "1"),
    "solver_used": ("which solver ran", "1"),
    "gradients": ("gradients evaluated by the solver, rejected steps included", "1"),
    "hvps": ("Hessian-vector products evaluated by the solver", "1"),
    "observation_gradients": ("gradients spent on records and stopping rules", "1"),
    "steps": ("attempted steps", "1"),
    "rejected": ("rejected steps", "1"),
    "seconds": ("wall time, compilation included", "s"),
}
