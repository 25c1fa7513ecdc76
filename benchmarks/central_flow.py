"""What a central flow costs per step of the optimiser that it describes, counted in gradients.

    python benchmarks/central_flow.py
    python benchmarks/central_flow.py --eigenvalues 1 --steps 200

A tanh network of 97 parameters on a sine of eight samples, beyond the edge of stability of gradient
descent with eta = 0.1 from about step 150 on. Gradient descent takes one gradient a step.

    python benchmarks/central_flow.py --eta 0.4 --steps 30 --eigenvalues 8 --rtol 1e-6
"""

import dataclasses

import tyro


@dataclasses.dataclass(frozen=True)
class Options:
    """Which flows.

    Attributes:
        eigenvalues: how many may be at the edge.
        steps: of gradient descent, whose time the flow takes.
        rtol: relative tolerances.
        eta: the step; at 0.4 the start is beyond the edge.
    """

    eigenvalues: int = 3
    steps: int = 400
    rtol: tuple[float, ...] = (1e-6, 1e-4)
    eta: float = 0.1


def network() -> tuple:
    """The model and its task."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    from flowlift import tasks

    x = np.linspace(-1, 1, 8)[:, None]
    model = eqx.nn.MLP(1, 1, 8, 2, jnp.tanh, key=jax.random.key(2), dtype=jnp.float64)
    rng = np.random.default_rng(2)
    for i, layer in enumerate(model.layers):
        weight = jnp.asarray(rng.normal(size=layer.weight.shape) / layer.weight.shape[1] ** 0.5)
        where = lambda m, i=i: (m.layers[i].weight, m.layers[i].bias)
        model = eqx.tree_at(where, model, (weight, jnp.zeros(layer.bias.shape)))
    return model, tasks.supervised(jnp.asarray(x), jnp.asarray(np.sin(4 * x)))


def main(options: Options) -> None:
    import diffrax
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from flowlift import solve
    from flowlift.flow.dynamics import CentralFlow

    model, task = network()
    dynamics = CentralFlow(options.eta, options.eigenvalues)
    times = np.linspace(0, options.eta * options.steps, options.steps // 10 + 1)[1:]
    print(
        f"{'solver':10}{'rtol':>8}{'evaluations/step':>18}{'gradients/step':>16}{'mean loss':>11}"
    )
    for solver in ("tsit5", diffrax.Bosh3(), diffrax.Heun()):
        for rtol in options.rtol:
            numbers = {"rtol": rtol, "atol": rtol / 1000, "save": times.tolist()}
            flow = solve(model, task, times[-1], solver=solver, dynamics=dynamics, **numbers)
            evaluations = flow.stats.gradients / options.steps
            cost = evaluations * flow.observations["evaluation_cost"].mean()
            name = solver if isinstance(solver, str) else type(solver).__name__
            mean = flow.observations["mean_loss"][-10:].mean()
            print(f"{name:10}{rtol:8.0e}{evaluations:18.1f}{cost:16.0f}{mean:11.5f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
