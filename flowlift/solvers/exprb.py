"""An adaptive exponential Rosenbrock method of order 5 with phi-functions by Lanczos chains."""

from collections.abc import Callable
from typing import Any, ClassVar, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, Real

from ..numbers import plain
from ..showing import shows_itself
from . import room
from .lanczos import rounding_of_products
from .pace import HOPELESS_IF_STABLE
from .parts import Select, flow_part, live_scale, rate_of, split
from .phi import Projection, phi
from .predictive import Estimate, PredictiveController
from .tolerances import check_controller, not_yet
from .work import Halt, StepReport, Work, WorkController

NODES = np.array([1 / 4, 1 / 2, 9 / 10, 1.0])
# Row i: what D_2, D_3, D_4 add, with phi_3 and with phi_4 of (c Z), to the stage at node i.
PHI3 = np.array([[0, 0, 0], [4, 0, 0], [2916 / 125, 0, 0], [0, 18, -250 / 81]])
PHI4 = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, -60, 500 / 27]])
# The same for the embedded solution of order 4.
EMBEDDED3 = np.array([64.0, -8.0, 0.0])
EMBEDDED4 = np.array([-384.0, 96.0, 0.0])
# Where each chain's vector, F_0, D_2, D_3, D_4, is used most: c; weights of phi_1, phi_3, phi_4.
USES = np.array(
    [[1, 1, 0, 0], [0.9, 0, 2916 / 125, 0], [1, 0, 18, -60], [1, 0, -250 / 81, 500 / 27]]
)
# What a chain may miss, as a part of the tolerance of a step.
SHARE = 0.1
# How far each chain may fill the basis.
SPACE = np.array([0.75, 0.85, 0.95, 1.0])
# Fractions of a step that are tried where the basis does not suffice.
SHORTER = 0.8 ** np.arange(1, 25)
_CHAINS = len(NODES)


class _Step(eqx.Module):
    """A step under way.

    Attributes:
        projection: the joint Krylov space of all vectors so far.
        vectors: F_0, D_2, D_3, D_4, (4, P), zero where not known yet.
        others: their components beside the flow's part, (4, Q).
        moved: the last stage minus the start, (P,).
        moved_others: the same beside, (Q,).
        difference: the last stage minus the embedded solution, (P,).
        difference_others: the same beside, (Q,).
        rate: the field at the last stage, (P,).
        rate_others: the same beside, (Q,).
        limit: the longest step for which F_0's chain suffices, or promises to.
    """

    projection: Projection
    vectors: Float[Array, "4 P"]
    others: Float[Array, "4 Q"]
    moved: Float[Array, " P"]
    moved_others: Float[Array, " Q"]
    difference: Float[Array, " P"]
    difference_others: Float[Array, " Q"]
    rate: Float[Array, " P"]
    rate_others: Float[Array, " Q"]
    limit: Float[Array, ""]


@shows_itself
class ExpRosenbrock(
    diffrax.AbstractAdaptiveSolver[Bool[Array, ""]], diffrax.AbstractImplicitSolver[Bool[Array, ""]]
):
    """Order 5 with an embedded order 4: exact on linear flows, however stiff.

    With J the exact Jacobian at the start, Z = h J and D_i = F(U_i) - F_0 - J (U_i - u_0),

        U_2 = u_0 + (1/4) h phi_1(Z/4) F_0
        U_3 = u_0 + (1/2) h phi_1(Z/2) F_0 + 4 h phi_3(Z/2) D_2
        U_4 = u_0 + (9/10) h phi_1(9Z/10) F_0 + (2916/125) h phi_3(9Z/10) D_2
        u_1 = u_0 + h phi_1(Z) F_0 + h phi_3(Z) A + h phi_4(Z) B

    with A = 18 D_3 - (250/81) D_4 and B = -60 D_3 + (500/27) D_4, and for the embedded one with
    h phi_3(Z) (64 D_2 - 8 D_3) + h phi_4(Z) (-384 D_2 + 96 D_3).

    J is symmetric, so all phi-functions come from one Rayleigh-Ritz projection: Lanczos chains
    from F_0, D_2, D_3 and D_4 in turn, each orthogonal to what is there and ended when its
    residual (Saad 1992; Hochbruck, Lubich, Selhofer 1998), |h^2 (J V - V T) phi_{k+1}(hT) V^T b|,
    is below a tenth of the tolerance; F_0 itself is always in the basis. The stiff directions are
    found once, by the first chain; the D_i need a few products each. J (U_i - u_0) needs none.
    Integrals carried beside the flow are integrated to the same order, the Jacobian of the whole
    being block-triangular; but a stiff layer that the flow's own part crosses in one step, exactly,
    is no smooth integrand: see that the norm of the error includes the integrals where they must
    be as good.

    Where the basis cannot serve the step, the step is refused, with the length that it can serve.
    The field must not depend on t. Negative curvature is integrated exactly as growth. Dense
    output under diffrax: cubic Hermite, of order 3 only: let steps end where values are wanted.
    (`flowlift.solve` drives it from the host, with a continuous extension of local order 5.)
    In float32 D_i loses what F(U_i) - F_0 cancels: relative errors below 1e-4 are out of reach.

    Cost per step: 5 evaluations and one product per basis vector; memory: `max_basis` vectors
    and 24 more, within `memory`.

    Source: Luan, Ostermann, Parallel exponential Rosenbrock methods, Comput. Math. Appl. 71 (2016)
    (pexprb54s4); the stiff order conditions are those of their J. Comput. Appl. Math. 255 (2014).

    Attributes:
        rtol: relative tolerance, for the chains; None: that of the controller.
        atol: absolute tolerance, likewise.
        live: how many leading coordinates of the flow's part count, the others being zeros that
            never move; None for all.
        select: state -> the part that flows by itself, see `flowlift.solvers.parts`; None for all.
        max_basis: at most so many basis vectors.
        memory: bytes for all vectors, see `flowlift.solvers.room`: where it holds fewer, so be it.
        root_finder: the controller's tolerances, filled by diffrax.
    """

    rtol: Real[Array, ""] | float | None = None
    atol: Real[Array, ""] | float | None = None
    select: Select | None = eqx.field(static=True, default=None)
    live: Int[Array, ""] | None = None
    max_basis: int = eqx.field(static=True, converter=plain, default=256)
    memory: int = eqx.field(static=True, converter=plain, default=room.KEPT)
    root_finder: Any = eqx.field(default_factory=not_yet)

    term_structure: ClassVar[Any] = diffrax.ODETerm
    interpolation_cls: ClassVar[Any] = diffrax.ThirdOrderHermitePolynomialInterpolation

    @property
    def root_find_max_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None is made: the name is diffrax's."""
        return 0

    @staticmethod
    def default_controller(rtol, atol, norm=optx.rms_norm, **options) -> WorkController:
        """The controller to pass to `diffrax.diffeqsolve` with this solver.

        Args:
            rtol: relative tolerance.
            atol: absolute tolerance.
            norm: of the scaled error.
            options: further arguments of `WorkController`.

        Returns:
            The controller; its state, saved by `SaveAt(controller_state=True)`, holds true counts
            of work, and the `Halt` if diffrax's result is `dt_min_reached`.
        """
        settings = {"startup": 2, "patience": HOPELESS_IF_STABLE} | options
        return cast(Any, WorkController)(PredictiveController(rtol, atol, norm), **settings)

    def order(self, terms) -> int:
        """5."""
        return 5

    def init(self, terms, t0, t1, y0, args) -> Bool[Array, ""]:
        """Nothing is kept but whether J was symmetric so far."""
        check_controller(self, PredictiveController)
        return jnp.asarray(True)

    def func(self, terms, t0, y0, args):
        """The field."""
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """One step."""
        x0, q0, join = split(self.select, y0)
        field = rate_of(terms, t0, t1, args)

        def rate(x):
            return split(self.select, field(t0, join(x, q0)))[:2]

        h = jnp.asarray(t1 - t0, x0.dtype)
        (rate0, rate_q0), tangent = jax.linearize(rate, x0)
        last = self._stages(h, x0, rate, tangent, rate0, rate_q0)
        y1 = join(x0 + last.moved, q0 + last.moved_others)
        # Where the field at the end is no number, no further step could be made.
        difference = last.difference + 0 * last.rate
        projection = last.projection
        symmetric = solver_state & projection.symmetric_beside(rounding_of_products(rate0, x0))
        report = StepReport(
            Estimate(
                join(difference, last.difference_others),
                last.limit.astype(jnp.result_type(t1)),
            ),
            Work.of(1 + _CHAINS, projection.size),
            jnp.where(symmetric, int(Halt.NONE), int(Halt.NOT_SYMMETRIC)),
        )
        slope0 = join(jnp.asarray(h * rate0), jnp.asarray(h * rate_q0))
        slope1 = join(h * last.rate, h * last.rate_others)
        dense = {"y0": y0, "y1": y1, "k0": slope0, "k1": slope1}
        return y1, report, dense, symmetric, diffrax.RESULTS.successful

    def _stages(self, h, x0, rate, tangent, rate0, rate_q0) -> _Step:
        blank, blank_q = jnp.zeros_like(rate0), jnp.zeros_like(rate_q0)
        capacity = room.of_exprb(self.max_basis, self.memory, x0)
        first = _Step(
            projection=Projection.empty(capacity, rate0, rate_q0.size, _CHAINS),
            vectors=jnp.zeros((_CHAINS, rate0.size), rate0.dtype).at[0].set(rate0),
            others=jnp.zeros((_CHAINS, rate_q0.size), rate0.dtype).at[0].set(rate_q0),
            moved=blank,
            moved_others=blank_q,
            difference=blank,
            difference_others=blank_q,
            rate=blank,
            rate_others=blank_q,
            limit=jnp.asarray(jnp.finfo(h.dtype).max, h.dtype),
        )
        given = self.root_finder
        rtol = given.rtol if self.rtol is None else self.rtol
        atol = given.atol if self.atol is None else self.atol
        if not eqx.is_array_like(atol):
            # As the controller may have it, a tree like the state.
            atol = flow_part(self.select, atol)
        scale = (atol + rtol * jnp.abs(x0)) * live_scale(x0.size, self.live, x0.dtype)
        weigh = lambda v: jnp.sqrt(jnp.mean((v / scale) ** 2))

        def stage(i, step: _Step) -> _Step:
            served, limit = _serve(h, i, step, tangent, weigh)
            step = eqx.tree_at(lambda s: (s.projection, s.limit), step, (served, limit))
            return _advance(h, i, step, x0, rate)

        return jax.lax.fori_loop(0, _CHAINS, stage, first)


def _serve(
    h, chain: Int[Array, ""], step: _Step, tangent, weigh: Callable
) -> tuple[Projection, Float[Array, ""]]:
    """Extend the projection until it serves the newest vector; and the longest step it serves."""
    vector, start = step.vectors[chain], step.projection
    # In percents: as integers they are exact in every precision.
    space = jnp.asarray(np.rint(100 * SPACE), int)[chain] * start.capacity // 100
    # A basis of the whole space misses nothing.
    space = jnp.where(start.capacity == vector.size, start.capacity, space)
    space = jnp.where(step.limit < h, 0, space)

    def check(projection: Projection):
        vectors, shares = _missed(projection, vector, chain, h[None])
        return weigh(vectors[0]), jnp.argmax(shares[0])

    def going(carry):
        projection, error, *_ = carry
        # Without F_0 in the basis, what it misses being below the tolerance, nothing would move.
        moves = (projection.size == 0) & (jnp.linalg.norm(vector) > 0)
        return (projection.size < space) & ((error > SHARE) | moves)

    def extend(carry):
        projection, error, weakest, due = carry
        # A vector that is new comes in first; then the chain that misses most goes on.
        new = projection.lasts[chain] == projection.capacity
        grown = jnp.where(new, chain, weakest)
        direction = jnp.where(new, projection.missing(vector), projection.tails[grown])
        projection = projection.extend(direction, grown, tangent)
        now = (projection.size >= due) | (projection.size >= space)
        error, weakest = jax.lax.cond(now, check, lambda p: (error, weakest), projection)
        # Every check is an eigenvalue problem; a product more costs little.
        due = jnp.where(now, projection.size + 1 + projection.size // 12, due)
        return projection, error, weakest, due

    carry = (start, *check(start), start.size + 1)
    projection, error, *_ = jax.lax.while_loop(going, extend, carry)
    shorter = lambda p: _shorter(h, p, vector, weigh)
    longest = lambda p: _promised(h, p, space, step.limit)
    limit = jax.lax.cond(error > SHARE, shorter, longest, projection)
    return projection, jnp.where(chain == 0, limit, step.limit)


def _shorter(h, projection: Projection, vector, weigh: Callable) -> Float[Array, ""]:
    """The longest of some shorter steps for which the projection serves F_0, the first vector."""
    lengths = h * jnp.asarray(SHORTER, h.dtype)
    missed, _ = _missed(projection, vector, jnp.asarray(0), lengths)
    fits = jax.vmap(weigh)(missed) <= SHARE
    return lengths[jnp.where(fits.any(), jnp.argmax(fits), len(SHORTER) - 1)]


def _promised(h, projection: Projection, space, boundless) -> Float[Array, ""]:
    """How far the basis may suffice: Krylov spaces grow like the root of the step, or slower."""
    capacity, dimension = projection.basis.shape
    ratio = space.astype(h.dtype) / jnp.maximum(projection.size, 1).astype(h.dtype)
    return boundless if capacity == dimension else h * jnp.maximum(1, ratio) ** 2


def _missed(
    projection: Projection, vector, chain: Int[Array, ""], lengths
) -> tuple[Float[Array, "n P"], Float[Array, "n 4"]]:
    """What the projection misses of a vector's largest use in steps of given lengths.

    Of h phi_k(ch J) b it is c h^2 (J V - V T) phi_{k+1}(ch T) V^T b, to first order, and
    h phi_k(0) (I - V V^T) b.

    Args:
        projection: the projection.
        vector: b.
        chain: which one, for its use.
        lengths: step sizes.

    Returns:
        What is missed, and the part of each chain's tail in it.
    """
    c, *weights = jnp.asarray(USES, vector.dtype)[chain]
    values, modes = projection.spectrum()
    coordinates = modes.T @ projection.coordinates(vector)
    column = lengths[:, None]
    functions = phi(c * column * values[None, :])
    later = sum(w * functions[k] for w, k in zip(weights, (1, 3, 4), strict=True))
    at_tails = c * column**2 * projection.at_tails((later * coordinates[None, :]) @ modes.T)
    at_zero = weights[0] + weights[1] / 6 + weights[2] / 24
    missed = at_tails @ projection.tails + column * at_zero * projection.missing(vector)[None, :]
    return missed, jnp.abs(at_tails) * jnp.linalg.norm(projection.tails, axis=1)[None, :]


def _advance(h, i: Int[Array, ""], step: _Step, x0, rate) -> _Step:
    """The stage at node i, the field there, and the next D."""
    projection, dtype = step.projection, x0.dtype
    tables = (NODES, PHI3, PHI4)
    c, weights3, weights4 = (jnp.asarray(table, dtype)[i] for table in tables)
    values, modes = projection.spectrum()
    p1, p2, p3, p4, p5 = phi(c * h * values)
    flow, *changes = jnp.stack([projection.coordinates(v) for v in step.vectors]) @ modes
    changes, others = jnp.stack(changes), step.others[1:]

    def combined(with3, with4):
        """h phi_3(cZ) and h phi_4(cZ) of the whole, block-triangular J: inside, and beside."""
        # What is beside has the flow's own part in it, by phi-functions an order higher.
        by3, by4 = with3 @ changes, with4 @ changes
        inside = modes @ (h * (p3 * by3 + p4 * by4))
        across = modes @ (h * c * h * (p4 * by3 + p5 * by4))
        return inside, h * (with3 @ others / 6 + with4 @ others / 24) + across @ projection.others

    inside, beside = combined(weights3, weights4)
    embedded, embedded_beside = combined(
        jnp.asarray(EMBEDDED3, dtype), jnp.asarray(EMBEDDED4, dtype)
    )
    coordinates = modes @ (h * c * p1 * flow) + inside
    moved = projection.lift(coordinates)
    across = modes @ ((h * c) ** 2 * p2 * flow)
    moved_others = h * c * step.others[0] + across @ projection.others + beside
    new_rate, new_others = rate(x0 + moved)
    change = new_rate - step.vectors[0] - projection.apply(coordinates)
    change_others = new_others - step.others[0] - coordinates @ projection.others
    # The last stage is the solution: there is no further D.
    return _Step(
        projection=projection,
        vectors=step.vectors.at[i + 1].set(change, mode="drop"),
        others=step.others.at[i + 1].set(change_others, mode="drop"),
        moved=moved,
        moved_others=moved_others,
        difference=projection.lift(inside - embedded),
        difference_others=beside - embedded_beside,
        rate=new_rate,
        rate_others=new_others,
        limit=step.limit,
    )
