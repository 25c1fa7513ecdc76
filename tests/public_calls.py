"""A valid call of each public constructor and function that takes numbers and is quick to call."""

import flowlift
from flowlift import compare, flow, lift, modules, solvers, studies, sweep, tasks
from flowlift.answers import half_width

MLP = modules.mlp(inputs=2, depth=1)
CALLS = {
    # Vertices and edge maps.
    "At": (modules.At, (modules.Scalar(), 0), {}),
    "Bias": (modules.Bias, (), {"shape": (2,), "weights": (2,)}),
    "Convolution": (modules.Convolution, ((3,),), {"stride": 2, "padding": 1}),
    "Convolution, pairs": (modules.Convolution, ((3,),), {"padding": ((1, 1),)}),
    "Gated": (modules.Gated, (), {"gates": 1}),
    "HermiteSum": (modules.HermiteSum, ((0.0, 1.0),), {}),
    "Hidden": (modules.Hidden, ("h",), {"shape": (2,)}),
    "InnerProduct": (modules.InnerProduct, (), {"axes": 1}),
    "Input": (modules.Input, ("x",), {"shape": (2,), "copies": 2}),
    "LowRank": (modules.LowRank, (), {"rows": 2, "rank": 1}),
    "Matrix": (modules.Matrix, (), {"rows": 2}),
    "Normalise": (modules.Normalise, (), {"axes": 1, "epsilon": 0.5}),
    "Output": (modules.Output, ("f",), {"copies": 2, "shape": (2,)}),
    "Pool": (modules.Pool, (), {"window": 2}),
    "Pool, shape": (modules.Pool, (), {"window": (2,)}),
    "Sine": (modules.Sine, (), {"frequency": 2.0}),
    # Base graphs.
    "attention": (modules.attention, (), {"tokens": 2, "channels": 2, "head_channels": 2}),
    "cnn1d": (modules.cnn1d, (), {"length": 4, "channels": 1, "depth": 1, "kernel": 3}),
    "mlp": (modules.mlp, (), {"inputs": 2, "outputs": 2, "depth": 1}),
    "polynomial_committee": (modules.polynomial_committee, (2,), {"coefficients": (0.0, 1.0)}),
    "resnet": (modules.resnet, (), {"shape": (4,), "channels": 1, "blocks": 1, "kernel": 3}),
    "siren": (modules.siren, (), {"inputs": 2, "depth": 1, "frequency": 2.0}),
    "unrolled_rnn": (modules.unrolled_rnn, (), {"steps": 2, "inputs": 2}),
    # Laws.
    "BernoulliInDegree": (lift.BernoulliInDegree, (2.0,), {}),
    "BernoulliOutDegree": (lift.BernoulliOutDegree, (2.0,), {}),
    "FixedInDegree": (lift.FixedInDegree, (2,), {}),
    "ErdosRenyi": (lift.ErdosRenyi, (), {"scale": 0.5, "kernel": (3,)}),
    "Gaussian": (lift.Gaussian, (), {"scale": 0.5}),
    "GaussianFanIn": (lift.GaussianFanIn, (), {"scale": 0.5}),
    "GaussianWidth": (lift.GaussianWidth, (), {"scale": 0.5}),
    "LecunNormal": (lift.LecunNormal, (), {"scale": 0.5}),
    "Uniform": (lift.Uniform, (), {"bound": 0.5}),
    "sample": (lift.sample, (MLP,), {"copies": {"h1": 2}, "edges": lift.Complete(), "seed": 1}),
    "resolve_copies": (lift.resolve_copies, (MLP, 2), {}),
    "expected_counts": (lift.expected_counts, (MLP,), {"copies": 2, "edges": lift.Complete()}),
    # Tasks.
    "periodic": (tasks.periodic, ({1: 1.0},), {"samples": 4}),
    "periodic, held out": (tasks.periodic, ({1: (1.0, 0.5)},), {"samples": 4, "held_out": 2}),
    "gaussian_committee": (tasks.gaussian_committee, (), {"teachers": 2, "inputs": 3}),
    "erf_committee": (tasks.erf_committee, (), {"teachers": 2, "inputs": 3}),
    "gaussian_mixture": (
        tasks.gaussian_mixture,
        (),
        {"inputs": 2, "samples": 4, "distance": 1.0, "seed": 1, "noise": 0.5, "held_out": 2},
    ),
    "linear_teacher": (
        tasks.linear_teacher,
        (),
        {"inputs": 2, "spectrum": 1.0, "powers": (0.5, 0.5), "samples": 4, "seed": 1},
    ),
    "matrix_completion": (
        tasks.matrix_completion,
        (),
        {"rows": 3, "columns": 3, "rank": 1, "seed": 1, "observed": 0.5, "noise": 0.1},
    ),
    "matrix_product": (
        tasks.matrix_product,
        (),
        {"size": 2, "seed": 1, "rows": 2, "depth": 2, "scale": 0.5},
    ),
    "modular_addition": (tasks.modular_addition, (), {"modulus": 3, "fraction": 0.5, "seed": 1}),
    "multi_index": (
        tasks.multi_index,
        (),
        {"inputs": 3, "terms": {"1 2": 1.0}, "samples": 4, "seed": 1, "noise": 0.1},
    ),
    "single_index": (
        tasks.single_index,
        (),
        {"inputs": 3, "coefficients": {1: 1.0}, "samples": 4, "seed": 1},
    ),
    "random_labels": (
        tasks.random_labels,
        (),
        {"inputs": 3, "samples": 4, "seed": 1, "norms": (0.5, 1.5), "labels": (0.5, 1.5)},
    ),
    "sparse_parity": (tasks.sparse_parity, (), {"inputs": 3, "degree": 2, "samples": 4, "seed": 1}),
    "xor_clusters": (
        tasks.xor_clusters,
        (),
        {"inputs": 2, "samples": 4, "distance": 1.0, "seed": 1, "noise": 0.1},
    ),
    "with_decay": (tasks.with_decay, (tasks.periodic({1: 1.0}, samples=4), 0.5), {}),
    "with_output": (tasks.with_output, (tasks.periodic({1: 1.0}, samples=4),), {"scale": 0.5}),
    # Flows.
    "LogTimes": (flow.LogTimes, (), {"per_decade": 2, "start": 0.5}),
    "LossBelow": (flow.LossBelow, (0.5,), {}),
    "LogLossBelow": (flow.LogLossBelow, (0.5,), {}),
    "GradientNormBelow": (flow.GradientNormBelow, (0.5,), {}),
    "Stagnation": (flow.Stagnation, (), {"relative": 0.5, "factor": 10.0}),
    "Checkpoints": (flow.Checkpoints, ("x",), {"every": 2.0}),
    "Adam": (flow.Adam, (), {"tau_1": 0.5, "tau_2": 1.5, "epsilon": 0.5}),
    "RMSProp": (flow.RMSProp, (), {"tau": 0.5, "epsilon": 0.5}),
    "HeavyBall": (flow.HeavyBall, (0.5,), {}),
    "Nesterov": (flow.Nesterov, (3.0,), {}),
    "LogLoss": (flow.LogLoss, (), {"homogeneity": 2.0}),
    "CentralFlow": (flow.CentralFlow, (0.5,), {"eigenvalues": 2}),
    "CentralRMSProp": (
        flow.CentralRMSProp,
        (),
        {"step_size": 0.5, "decay": 0.5, "initial": 0.5, "epsilon": 0.5, "eigenvalues": 2},
    ),
    "Power": (flow.Power, (), {"factor": 0.5, "power": 0.5}),
    # Solvers.
    "RKC2": (solvers.RKC2, (), {"max_stages": 40}),
    "BDF": (solvers.BDF, (), {"capacity": 20, "secants": 4}),
    "ExpRosenbrock": (solvers.ExpRosenbrock, (), {"max_basis": 20}),
    # Studies, comparisons, answers.
    "study": (
        flowlift.study,
        (),
        {
            "task": {"kind": "periodic", "harmonics": {"1": 1.0}, "samples": 4},
            "module": {"kind": "mlp", "inputs": 2, "depth": 1},
            "edges": lift.Complete(),
            "sizes": [2],
            "horizon": 2.0,
            "seeds": 2,
            "rtol": 0.5,
            "vary": {"flow.atol": [0.5]},
            "question": {"losses": [0.5]},
        },
    ),
    "Question": (studies.Question, (), {"losses": (0.5,), "times": (0.5,), "delta": 0.5}),
    "adam": (compare.adam, (0.5,), {"b1": 0.5, "b2": 0.5, "epsilon": 0.5}),
    "rmsprop": (compare.rmsprop, (0.5,), {"decay": 0.5, "initial": 0.5, "epsilon": 0.5}),
    "momentum": (compare.momentum, (0.5, 0.5), {}),
    "gradient_descent": (compare.gradient_descent, (0.5,), {}),
    "half_width": (half_width, (9,), {"probability": 0.5, "level": 0.5}),
    "coverage_after_stopping": (
        sweep.coverage_after_stopping,
        (0.25,),
        {"first": 4, "chunk": 4, "level": 0.75},
    ),
}


def turned(value, integer, real):
    """A value, with the numbers in it turned into those of another library."""
    if isinstance(value, dict):
        return {key: turned(item, integer, real) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(turned(item, integer, real) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return integer(value) if isinstance(value, int) else real(value)
