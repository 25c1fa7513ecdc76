"""Names that results use: no observer, quantity or axis may bear one."""

# Said here alone: `solve`, `dataset` and studies refuse them, and a test holds that whatever they
# write is among them.
_COORDINATES = ("time", "observation_time", "size", "seed", "run", "row", "row_origin", "origins")
_ALONG = ("loss", "gradient_norm", "arc_length", "energy", "distance")
_HELD_OUT = ("held_out_loss", "accuracy", "held_out_accuracy")
_HELD_OUT += tuple(f"final_{name}" for name in _HELD_OUT)
_AT_THE_END = ("end_time", "result", "solver_used", "steps", "rejected", "legs", "seconds")
_WORK = ("gradients", "hvps", "observation_gradients", "observation_seconds")
_OF_A_RUN = ("initial_loss", "final_loss", "final_gradient_norm", "final_distance")
_OF_A_RUN += ("final_arc_length", "parameters", "edges", "graph_hash", "reason", "ended", "host")
_OF_A_RUN += ("versions", "least_eigenvalue", "least_curvature", "certificate_failure")
_OF_A_RUN += ("gradient_norm_bound", "curvature_bound", "certificate_hvps")
_OF_A_RUN += ("run_seconds", "compile_seconds")
# Of runs whose graph changed.
_REWIRED = ("rewirings", "rewiring", "exchange", "final_graph_hash", "rewiring_graph_hash")
_REWIRED += ("rewiring_time", "rewiring_loss_before", "rewiring_loss_after", "exchange_rewiring")
_REWIRED += ("exchange_base_edge", "dropped_source", "dropped_target", "grown_source")
_REWIRED += ("grown_target", "dropped_magnitude", "grown_slope")
# Names that earlier versions did not use: refused where flows begin, not where results are read,
# whose quantities may bear them.
LATER = frozenset((*_HELD_OUT, *_REWIRED))
RESERVED = LATER.union(_COORDINATES, _ALONG, _AT_THE_END, _WORK, _OF_A_RUN)
