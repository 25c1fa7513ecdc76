"""Cells as one dataset by xarray's own joins, which takes it long: what `assemble` must equal."""

import functools

import numpy as np
import xarray

from flowlift.store.joining import numbered
from flowlift.studies.grid import all_sizes, axis_names, cells
from flowlift.studies.toml import axis_values, to_toml


def assembled(study, contents):
    """Seeds beside one another, then sizes, then the further axes, each in the study's order.

    Args:
        study: the study.
        contents: datasets of cells; each run stands in one.

    Returns:
        The dataset.
    """
    found = {str(r): data for data in contents for r in np.ravel(data["run"].values)}
    shapes = {}
    for cell in cells(study):
        for run in (run for run in cell.runs if run in found):
            data = found[run].drop_attrs(deep=False).assign_attrs(found[run].attrs)
            data.attrs.pop("cell", None)
            part = data.sel(seed=[str(r) == run for r in np.ravel(data["run"].values)])
            shapes.setdefault((cell.variant, cell.size), []).append(part)
    sizes = {}
    for (variant, _), parts in shapes.items():
        sizes.setdefault(variant, []).append(_concat(parts, "seed"))
    names = axis_names(study)
    blocks = [
        _concat(parts, "size").expand_dims({names[key]: [value] for key, value in variant})
        for variant, parts in sizes.items()
    ]
    data = xarray.merge(
        numbered(blocks), join="outer", compat="no_conflicts", combine_attrs="drop_conflicts"
    )
    values = axis_values(study)
    order = {axis: values[key] for key, axis in names.items()} | {"size": all_sizes(study)}
    data = data.reindex({axis: [v for v in o if v in data[axis]] for axis, o in order.items()})
    words = lambda v: v.fillna("").astype(str) if v.dtype == object else v
    data = data.map(words, keep_attrs=True)
    # Joined step by step, an attribute that differs in one step comes back in the next.
    used = [found[run] for cell in cells(study) for run in cell.runs if run in found]
    for name, variable in data.variables.items():
        there = [part[name].attrs for part in used if name in part.variables]
        variable.attrs = _common(there) if there else {}
    attrs = _common([part.attrs for part in used]) | {"study": to_toml(study)}
    attrs.pop("cell", None)
    return data.drop_attrs(deep=False).assign_attrs(attrs)


def _common(given):
    names = {name for attrs in given for name in attrs}
    values = {name: [attrs[name] for attrs in given if name in attrs] for name in names}
    return {name: v[0] for name, v in values.items() if all(x == v[0] for x in v)}


def _concat(parts, axis):
    join = functools.partial(
        xarray.concat, combine_attrs="drop_conflicts", join="outer", data_vars="all"
    )
    return join(numbered(parts), axis).sortby(axis)
