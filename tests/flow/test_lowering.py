"""What a leg, a trajectory and a kernel become on a CPU, a CUDA device and a TPU: by `jax.export`.

No such device is needed to lower for it. That shows that a program exists there and what it asks
of its host, not that it runs there or how fast.
"""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from flowlift import flow, lift, modules, tasks
from flowlift.flow.legs import advancing, beginning, interpolating
from flowlift.flow.methods import resolve_method
from flowlift.flow.problem import make_problem
from flowlift.kernels import METHODS, Fibre, fibre_sum
from flowlift.packing import packed
from flowlift.static import split
from flowlift.tasks import resolve_objective

PLATFORMS = ("cpu", "cuda", "tpu")
# Of the calls of a CPU's programs jax.export guarantees none of these over versions.
CPU_WITHOUT_GUARANTEE = ("cpu_csr_sparse_dense_ffi", "lapack_ssyevd_ffi", "lapack_sgetrf_ffi")
CPU_WITHOUT_GUARANTEE += ("lapack_dgetrf_ffi", "lapack_dsyevd_ffi", "lapack_strsm_ffi")
CPU_WITHOUT_GUARANTEE += ("lapack_dtrsm_ffi",)
# Factorisations and eigenvalues of small matrices, by the device's own libraries; one that comes
# new has to be looked at.
DEVICE_CALLS = {
    "cuda": {"cusolver_syevd_ffi", "cusolver_getrf_ffi", "cu_lu_pivots_to_permutation"},
    "tpu": {"Eigh", "LuDecomposition", "Qr"},
}
# What moves numbers between a device and its host, or between devices.
TRANSFERS = ("stablehlo.infeed", "stablehlo.outfeed", "stablehlo.send", "stablehlo.recv")

ZOO = {
    "mlp": (modules.mlp(3, depth=2), (3,)),
    "mlp with skips": (modules.mlp_with_skips(3, depth=2), (3,)),
    "two layers": (modules.two_layer(3), (3,)),
    "deep linear": (modules.deep_linear(3), (3,)),
    "siren": (modules.siren(3, frequency=2.0), (3,)),
    "committee": (modules.committee(3), (3,)),
    "polynomial committee": (modules.polynomial_committee(3, (0.0, 1.0, 0.5)), (3,)),
    "cnn1d": (modules.cnn1d(8, 1, 1, pool=2), (1, 8)),
    "cnn2d": (modules.cnn2d(6, 6, 1, 1, pool=2), (1, 6, 6)),
    "resnet": (modules.resnet((6, 6), 1, 1, blocks=1), (1, 6, 6)),
    "transformer": (modules.transformer(3, 4, 1, blocks=1, normalise=True), (3, 4)),
    "attention": (modules.attention(3, 2), (3, 2)),
    "rnn": (modules.unrolled_rnn(3, 4, 1, gated=True), (3, 4)),
}


def as_users_have_it(monkeypatch, platform):
    """Equinox's checks, and the kernels' choice for a platform."""
    monkeypatch.setattr("equinox._errors.EQX_ON_ERROR", "raise")
    if platform != "cpu":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr("flowlift.kernels.choice.measured", lambda _: None)


@pytest.fixture(params=PLATFORMS)
def platform(request, monkeypatch):
    """Where to."""
    as_users_have_it(monkeypatch, request.param)
    return request.param


def lowered(function, platform, *arguments):
    """The text of an exported program."""
    unsafe = [jax.export.DisabledSafetyCheck.custom_call(name) for name in CPU_WITHOUT_GUARANTEE]
    if platform != "cpu":
        unsafe = [jax.export.DisabledSafetyCheck.custom_call(n) for n in DEVICE_CALLS[platform]]
    make = jax.export.export(function, platforms=[platform], disabled_checks=unsafe)
    return make(*arguments).mlir_module()


def assert_on_its_own(text, platform):
    """No callback, no call that only a CPU has, no transfer."""
    calls = set(re.findall(r"custom_call @([\w.$]+)", text))
    assert not {call for call in calls if "callback" in call}
    if platform == "cpu":
        assert calls <= set(CPU_WITHOUT_GUARANTEE)
    else:
        assert calls <= DEVICE_CALLS[platform]
    assert not [name for name in TRANSFERS if name in text]


def equations(jaxpr):
    """All equations of a program, in all depths."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def primitives(function, *arguments):
    closed = jax.make_jaxpr(function)(*arguments)
    return {equation.primitive.name for equation in equations(closed.jaxpr)}


def assert_single_precision(function, *arguments):
    """No number of 64 bits, but for literals between which diffrax's controller chooses.

    Those are scalars of weak type, converted before they meet an array.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    found = [v.aval for equation in equations(closed.jaxpr) for v in equation.outvars]
    double = [aval for aval in found if is_double(aval)]
    assert all(aval.shape == () and aval.weak_type for aval in double)
    assert not [value for value in closed.consts if is_double(jax.typeof(value))]


def assert_exact_products(function, *arguments):
    """Every matrix product is in the precision of its numbers, not in TF32."""
    found = equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    products = [e.params["precision"] for e in found if e.primitive.name == "dot_general"]
    assert products
    highest = jax.lax.Precision.HIGHEST
    assert {str(p) for p in products} <= {str(highest), str((highest, highest))}


def is_double(aval):
    return getattr(aval, "dtype", None) in (np.dtype("float64"), np.dtype("complex128"))


def assert_stays_where_it_is(function, *arguments):
    """No `device_put` to another place inside of a program."""
    moving = {"device_put", "pure_callback", "io_callback", "debug_callback"}
    assert not primitives(function, *arguments) & moving


def problem_of(name, precision, samples):
    module, shape = ZOO[name]
    model = lift.sample(module, copies=4, edges=lift.FixedInDegree(2), seed=0)
    x = np.random.default_rng(0).standard_normal((samples, *shape))
    targets = x.reshape(samples, -1)[:, 0].reshape(jax.eval_shape(model.batch, x).shape)
    objective = resolve_objective(tasks.supervised(x, targets))
    return make_problem(model, objective, precision)


def programs_of(problem, solver, precision):
    """Beginning, a leg with both thresholds and save times, and what interpolates."""
    method = resolve_method(solver, 1e-3, 1e-6, precision, problem)
    arrays, static = packed((problem, method), problem.objective)
    y = problem.state_on_host
    begin = beginning(static)
    memory = jax.eval_shape(begin, arrays, y)[0]
    yield begin, (arrays, y)
    of = lambda size: jax.ShapeDtypeStruct((size,), y.dtype)
    leg, given = advancing(static, (True, True)), (arrays, y, memory, of(10), of(64))
    yield leg, given
    dense = jax.eval_shape(leg, *given)[2]
    own = split(method.solver)
    yield interpolating(own[1]), (own[0], dense, jax.ShapeDtypeStruct((), y.dtype), of(8))


# A number of samples for each: what is nested in a program is traced once for its shapes, with the
# settings of then.
SAMPLES = dict(zip(PLATFORMS, (5, 6, 7), strict=True))


@pytest.mark.slow  # A second or more each: the whole table.
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_every_solver_is_a_program_of_every_device(solver, precision, platform):
    check_solver(solver, precision, platform)


def check_solver(solver, precision, platform):
    problem = problem_of("mlp", precision, SAMPLES[platform])
    for program, arguments in programs_of(problem, solver, precision):
        assert_on_its_own(lowered(program, platform, *arguments), platform)
        assert_stays_where_it_is(program, *arguments)
        if precision == "float32":
            assert_single_precision(program, *arguments)


@pytest.mark.slow  # A second each.
@pytest.mark.parametrize("solver", ["tsit5", "bdf", "rkc2"])
@pytest.mark.parametrize("default", [None, "default", "tensorfloat32"])
def test_products_of_flows_are_exact_whatever_the_default(solver, default):
    """A network of equinox, which takes JAX's default; its solver's linear algebra too."""
    model = eqx.nn.MLP(3, "scalar", 4, 1, key=jax.random.key(0))
    x = np.ones((4, 3), np.float32)
    problem = make_problem(model, resolve_objective(tasks.supervised(x, x[:, 0])), "float32")
    with jax.default_matmul_precision(default):
        *_, (leg, given), _ = programs_of(problem, solver, "float32")
        assert_exact_products(leg, *given)
        assert_exact_products(problem.value_and_grad, problem.start)


@pytest.mark.slow  # A second for each of fifteen modules on each of three devices.
@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_is_a_program_of_every_device(name, platform):
    """Gradients and Hessian-vector products, in a leg and as the host calls them."""
    problem = problem_of(name, "float32", 3 + SAMPLES[platform])
    for program, arguments in list(programs_of(problem, "rkc2", "float32"))[:2]:
        assert_on_its_own(lowered(program, platform, *arguments), platform)
        assert_single_precision(program, *arguments)
        assert_stays_where_it_is(program, *arguments)


def test_a_leg_is_a_program_of_a_gpu(monkeypatch):
    """The quick part of the tables around it."""
    as_users_have_it(monkeypatch, "cuda")
    objective = resolve_objective(lambda w: 0.5 * jnp.sum(w**2))
    problem = make_problem(jnp.ones(3), objective, "float32")
    programs = programs_of(problem, "tsit5", "float32")
    assert_on_its_own(lowered(*one_after(programs, "cuda")), "cuda")


def one_after(programs, platform):
    """The leg, which comes second."""
    next(programs)
    program, arguments = next(programs)
    return program, platform, *arguments


@pytest.mark.slow  # A second each.
@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_every_kernel_is_a_program_of_every_device(method, regular, platform):
    """A sum over a fibre and its derivatives to second order; alone, and of several members."""
    fibre = fibre_for(method, regular)
    w, y = jnp.ones(fibre.capacity, jnp.float32), jnp.ones((fibre.n_sources, 6), jnp.float32)

    def total(fibre, w, y):
        return jnp.sum(jnp.sin(fibre_sum(fibre, w, y, method=method)))

    def product(fibre, w, y):
        return jax.jvp(lambda w: jax.grad(total, 1)(fibre, w, y), (w,), (w,))

    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), (fibre, w, y))
    for function, arguments in ((product, (fibre, w, y)), (jax.vmap(product), many)):
        assert_on_its_own(lowered(jax.jit(function), platform, *arguments), platform)
        assert_single_precision(function, *arguments)


def fibre_for(method, regular):
    if method == "complete":
        return Fibre.complete(8, 6)
    targets = np.repeat(np.arange(30), 3)
    sources = (np.arange(90) * 7) % 40
    if regular:
        return Fibre.build(sources, targets, 40, 30, regular=3)[0]
    return Fibre.build(sources, targets, 40, 30, 128)[0]


@pytest.mark.slow  # Up to ten seconds of tracing each.
@pytest.mark.parametrize("solver", ["tsit5", "dopri8", "kvaerno5"])
def test_a_trajectory_and_its_gradient_call_no_host(solver, platform):
    """Though diffrax compares save times inside of a program.

    An implicit solver's derivative is that of its equations, whose solution lineax checks by a
    callback, out of our reach.
    """
    start = jnp.ones(SAMPLES[platform], jnp.float32)
    options = {"solver": solver, "rtol": 1e-3, "precision": "float32"}

    def last(w, times):
        square = lambda w: 0.5 * jnp.sum(w**2)
        return flow.trajectory(w, square, times, **options).losses[-1]

    given = start, jnp.asarray([0.0, 1.0], jnp.float32)
    forward = [last, lambda w, times: last(w, [0.0, 1.0])]
    for function in forward if solver == "kvaerno5" else [*forward, jax.grad(last, (0, 1))]:
        assert_on_its_own(lowered(jax.jit(function), platform, *given), platform)


@pytest.mark.slow  # The same gradient as in a leg.
def test_the_host_engine_calls_two_programs_that_call_no_host(platform):
    """The gradient, and the product: what the host's own solvers are driven by."""
    problem = problem_of("mlp", "float32", 9 + SAMPLES[platform])
    arrays, static = split(problem)
    gradient = lambda arrays, theta: static.joined(arrays).value_and_grad(theta)

    def product(arrays, theta, vector):
        return jax.jvp(lambda at: gradient(arrays, at)[1], (theta,), (vector,))[1]

    theta = problem.start_on_host
    for function, given in ((gradient, (theta,)), (product, (theta, theta))):
        assert_on_its_own(lowered(jax.jit(function), platform, arrays, *given), platform)
        assert_single_precision(function, arrays, *given)


@pytest.mark.slow  # Two seconds of tracing.
def test_a_callback_of_the_users_own_stays(monkeypatch):
    """And the checks above would see one: also in a trajectory, whose other checks are left out."""
    monkeypatch.setattr("equinox._errors.EQX_ON_ERROR", "raise")

    def loud(w):
        jax.debug.callback(lambda: None)
        return 0.5 * jnp.sum(eqx.error_if(w, w[0] > 9.0, "too large") ** 2)

    function = lambda w: flow.trajectory(w, loud, [1.0], rtol=1e-3).losses
    assert primitives(function, jnp.ones(2)) >= {"debug_callback", "pure_callback"}
    text = jax.jit(function).lower(jnp.ones(2)).as_text()
    with pytest.raises(AssertionError):
        assert_on_its_own(text, "cpu")


@pytest.mark.slow  # A program of diffrax's, compiled.
def test_times_that_do_not_increase_give_no_numbers():
    """Where they are traced nobody can say it; known ones get a sentence."""
    run = jax.jit(lambda times: flow.trajectory(jnp.ones(1), lambda w: jnp.sum(w**2), times))
    assert bool(run(jnp.asarray([0.5, 1.0])).success)
    for times in ([1.0, 0.5], [-1.0, 0.5], [0.5, jnp.nan], [0.5, 0.5]):
        found = run(jnp.asarray(times))
        assert not bool(found.success)
        assert np.isnan(found.losses).all()
        assert np.isnan(found.models).all()
