"""Results as a store would give them, without a flow."""

import numpy as np
import xarray
from study_text import TEXT

from flowlift import studies

ASKED = TEXT + "\n[question]\nlosses = [0.2, 0.05]\ntimes = [2.0]\ndelta = 0.25\n"


def ended(results, at, loss, result):
    """The same results, but some runs ended before the horizon.

    Args:
        results: as `made_up` gives them.
        at: where each run ended, over the runs' dimensions; NaN: where it did.
        loss: the loss there.
        result: how, a word for all or one each.

    Returns:
        The results.
    """
    dims = results.final_loss.dims
    at, loss = (np.broadcast_to(np.asarray(v, float), results.final_loss.shape) for v in (at, loss))
    early = xarray.DataArray(np.isfinite(at), dims=dims)
    end, last = (xarray.DataArray(v, dims=dims) for v in (at, loss))
    words = np.broadcast_to(np.asarray(result, dtype="<U20"), at.shape)
    return results.assign(
        loss=results.loss.where(~early | (results.time <= end)),
        final_loss=results.final_loss.where(~early, last),
        end_time=results.end_time.where(~early, end),
        result=xarray.where(early, xarray.DataArray(words, dims=dims), results.result),
    )


def made_up(study, final, axes=()):
    """Results as a store would give them: losses that fall from 1 to `final` at the horizon."""
    final = np.asarray(final, float)
    time = np.array([0.0, 1.0, 2.0, 5.0])
    dims = (*(name for name, _ in axes), "size", "seed")
    loss = final[..., None] ** (time / 5.0)
    return xarray.Dataset(
        {
            "loss": ((*dims, "time"), loss, {"long_name": "loss L", "units": "loss"}),
            "final_loss": (dims, final),
            "end_time": (dims, np.full(final.shape, 5.0)),
            "result": (dims, np.full(final.shape, "horizon")),
            "final_gradient_norm": (dims, np.full(final.shape, 0.1)),
            "parameters": (dims, np.full(final.shape, 10)),
            "edges": (dims, np.full(final.shape, 10)),
            "seconds": (dims, np.full(final.shape, 0.5)),
        },
        coords=dict(axes)
        | {
            "size": ("size", list(study.lift.sizes), {"long_name": "lift size n"}),
            "seed": np.arange(final.shape[-1]),
            "time": ("time", time, {"long_name": "flow time t", "units": "learning rate × steps"}),
        },
        attrs={"study": studies.to_toml(study), "version_flowlift": "0.1.0"},
    )
