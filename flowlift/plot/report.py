"""One self-contained page: what a study asked, the answer, and all that it rests on."""

import platform
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas
import tomli_w
import xarray

from ..answers import (
    Answer,
    LearningNumber,
    answers,
    best_seen,
    by_variant,
    evidence,
    in_words,
    paired_comparisons,
    planted_witness,
    power_law,
    study_of,
    summary,
    there,
    variant_name,
    variant_studies,
)
from ..files import write_text
from ..spelling import text_of
from ..store import load, remarks
from ..studies import Question, Study, cells
from ..studies.grid import axis_names
from ..sweep import tolerances_there
from .embedded import embedded
from .figures import figures
from .flow_curves import MOST_FLOWS, anchor, flow_curves
from .flows import flow_in_words
from .repeating import command_of
from .save import save_figures
from .sentences import in_a_sentence, network_drawn, seeds_that_would_do

# Variants whose single flows are drawn, each in a figure of its own.
_MOST_VARIANTS = 12


def write_report(
    directory: str | Path,
    output: str | Path | None = None,
    *,
    question: Question | None = None,
    more: Sequence[str] = (),
    files: str | None = None,
) -> Path:
    """Write the report of a study's results as one HTML page, images included.

    Args:
        directory: the folder that `run_study` wrote.
        output: the file; by default `report.html` in the folder.
        question: instead of the study's; without either, the page has no probabilities.
        more: further figures by name, as for `flowlift.plot.figures`.
        files: "svg", "pdf" or "png": the figures are written too, into a folder `figures` beside
            the page.

    Returns:
        The file.
    """
    directory = Path(directory)
    output = directory / "report.html" if output is None else Path(output)
    results = load(directory)
    page = report(
        results,
        question=question,
        tolerances=tolerances_there(study_of(results), directory),
        place=text_of(directory.name),
        more=more,
    )
    write_text(output, page)
    if files is not None:
        asked = question or study_of(results).question
        save_figures(results, output.parent / "figures", suffix=files, question=asked, more=more)
    return output


def report(
    results: xarray.Dataset,
    *,
    question: Question | None = None,
    tolerances: pandas.DataFrame | None = None,
    place: str = "results",
    more: Sequence[str] = (),
) -> str:
    """The page as text: it refers to nothing outside itself.

    Args:
        results: as given by `flowlift.store.load` or `flowlift.gather`.
        question: instead of the study's.
        tolerances: as given by `flowlift.sweep.check_tolerance`, to be shown.
        place: the name of the folder of results, for the command that repeats the study.
        more: further figures by name, as for `flowlift.plot.figures`.

    Returns:
        HTML.
    """
    # Results that were gathered from solutions belong to no study.
    study = study_of(results) if "study" in results.attrs else None
    of_study = study.question if study else None
    asked, runs = question or of_study, int(there(results).sum())
    given = answers(results, asked) if asked else ()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flowlift", "plot"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        name=study.name if study else results.attrs["title"],
        flow=flow_in_words(results)[0],
        runs=runs,
        sentence=in_a_sentence(results, study) if study else "",
        network=_inline(network_drawn(study)) if study else "",
        flows=list(_flows(results, study, place)),
        variants=len(list(by_variant(results))),
        planned=sum(len(cell.seeds) for cell in cells(study)) if study else runs,
        question=asked,
        changed=study is not None and question is not None and question != of_study,
        answers=[_answer(answer) for answer in given],
        figures=[embedded(*figure) for figure in figures(results, asked, more, given=given)],
        tables=list(_tables(results, asked, given, tolerances)),
        study=_shown(results.attrs["study"]) if study else None,
        versions=_versions(results),
        remarks=remarks(results),
        command=f"flowlift run study.toml --output {shlex.quote(place)}",
        report_command=f"flowlift report {shlex.quote(place)}",
    )


def _answer(answer: Answer) -> dict[str, Any]:
    """What the first lines say of one pair of loss and time, variants of one answer together."""
    variants = [
        {
            "name": variant_name(variant),
            "short": _short(number, generous, _part(answer.table, variant)),
            "long": in_words(number),
            "generous": in_words(generous),
            **_greatest(answer.table, variant),
        }
        for variant, number, generous in answer.numbers
    ]
    alike = {short: [v for v in variants if v["short"] == short] for short in _shorts(variants)}
    return {
        "event": answer.event,
        **{n: int(answer.table[n].to_numpy().sum()) for n in ("diverging", "stuck", "runs")},
        "undecided": int(answer.table[["undecided", "diverging"]].to_numpy().sum()),
        "not_observed": answer.not_observed,
        "variants": variants,
        "alike": alike,
    }


def _shorts(variants: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(variant["short"] for variant in variants))


def _short(number: LearningNumber, generous: LearningNumber, table: pandas.DataFrame) -> str:
    if number.at_most is not None:
        return f"yes, from lift size {number.at_most} on at the latest"
    if number.estimate is not None:
        return (
            f"perhaps, from lift size {number.estimate} on as estimated; the runs are too few for"
            f" a confident yes, {seeds_that_would_do(number, table)}"
        )
    if not number.estimated:
        return f"not known, as {number.unknown}"
    if generous.estimate is not None and generous != number:
        return "not seen at the sizes of this study; the undecided leave open what follows"
    return "not at the sizes of this study"


def _part(table: pandas.DataFrame, variant: dict[str, Any]) -> pandas.DataFrame:
    return table.xs(tuple(variant.values()), level=list(variant)) if variant else table


def _flows(results: xarray.Dataset, study: Study | None, place: str):
    """Single flows of each variant, drawn, with how many of how many are, and what repeats them."""
    parts = list(by_variant(results))[:_MOST_VARIANTS]
    for number, (variant, part) in enumerate(parts, 1):
        # The bound on what a page holds is that of all variants together.
        name = f"flow-{number}" if study else ""
        drawn = flow_curves(part, MOST_FLOWS // len(parts), name)
        if drawn.svg:
            yield {
                "name": variant_name(variant),
                "svg": _inline(drawn.svg),
                "shown": len(drawn.flows),
                "of": drawn.of,
                "commands": _commands(study, variant, name, drawn.flows, place) if study else [],
            }


def _commands(study: Study, variant: dict[str, Any], name: str, flows, place: str):
    """What repeats each of some flows, given as size and seed."""
    point = _point(study, variant)
    return [
        {
            "id": anchor(name, size, seed),
            "flow": f"n = {size}, seed {seed}",
            "command": command_of(study, point, size, seed, place),
        }
        for size, seed in flows
    ]


def _point(study: Study, variant: dict[str, Any]) -> dict[str, Any]:
    """A combination by the study's own keys, of which results keep the last word."""
    return {key: variant[name] for key, name in axis_names(study).items()}


def _inline(drawn: str) -> str:
    """An SVG element inside of HTML needs no name space, and a page names no address."""
    return drawn.replace(' xmlns="http://www.w3.org/2000/svg"', "")


def _shown(text: str) -> str:
    """A study's TOML without tables that hold nothing, which reading gives them anyway."""
    return tomli_w.dumps(_without_empty(tomllib.loads(text)))


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    kept = {k: _without_empty(v) if isinstance(v, dict) else v for k, v in table.items()}
    return {k: v for k, v in kept.items() if v != {}}


def _greatest(table: pandas.DataFrame, variant: dict[str, Any]) -> dict[str, str]:
    """What was seen at the greatest size, as a clause and as a count."""
    part = _part(table, variant)
    size = part.index.max()
    row = part.loc[size]
    count = f"{row['converged']:.0f} of {row['runs']:.0f}"
    unseen = f" ({row['not observed']:.0f} not observed)" if row["not observed"] else ""
    return {
        "greatest": f"at the greatest size, {size}, {count} lifts converged{unseen}: probability"
        f" between {row['low']:.3f} and {row['high']:.3f}",
        "count": f"{count} at n = {size}{unseen}",
    }


def _tables(
    results: xarray.Dataset,
    question: Question | None,
    given: Iterable[Answer],
    tolerances: pandas.DataFrame | None,
):
    """Titles, notes and tables, as rows of words."""
    yield from _outcomes(results, given)
    if question:
        yield _table(
            "Approximation number, from above",
            "The smallest size at which some theta has a loss of at most eps: the best flow seen,"
            " and a planted witness where the task has a teacher of the same module.",
            pandas.DataFrame(_approximations(results, question)),
        )
    yield _table(
        "Loss against size as a power law",
        "L = C n^(-exponent), least squares in log-log with a bootstrap interval over seeds;"
        " refused where the data are none.",
        pandas.DataFrame(_power_laws(results)),
    )
    yield _table(
        "How far each size went, and how its flows ended",
        "Losses where the flows ended; seconds of all seeds.",
        summary(results).reset_index(),
    )
    if tolerances is not None:
        yield _table(
            "The same at a tenth of the tolerances",
            "Largest relative change of the loss over save times, where it occurs, and changed"
            " verdicts.",
            tolerances,
        )


def _table(title: str, note: str, table: pandas.DataFrame) -> dict[str, Any]:
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return {"title": title, "note": note, "columns": [str(c) for c in table.columns], "rows": rows}


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.4g}"
    return "–" if value is None else str(value)


def _approximations(results: xarray.Dataset, question: Question):
    parts = list(by_variant(results))
    known = "study" in results.attrs
    studies = [study for _, study in variant_studies(results)] if known else [None] * len(parts)
    for loss in question.losses:
        for (variant, part), study in zip(parts, studies, strict=True):
            best, planted = best_seen(part, loss), study and planted_witness(study, loss)
            yield {"loss": loss, **variant} | {
                "best flow: size": best and best.size,
                "its loss": best and best.loss,
                "its seed": best and best.seed,
                "planted witness: size": planted and planted.size,
                "its exact loss": planted and planted.loss,
            }


def _outcomes(results: xarray.Dataset, given: Iterable[Answer]):
    """How the runs ended, and the evidence of divergences where an answer counts one."""
    for answer in given:
        yield _table(
            f"Outcomes and probabilities: {answer.event}",
            "probability: the share that had converged, known where all runs were observed; low,"
            " high: its interval, runs that were not observed counted either way; possible, at"
            " most: all but the stuck counted as converged. Intervals are exact (Clopper-Pearson).",
            answer.table.reset_index(),
        )
        if (pairs := paired_comparisons(results, answer.loss, answer.time, on=answer.on)).size:
            yield _table(
                f"Paired comparisons: {answer.event}",
                "Exact McNemar tests on runs of the same size and seed; p is not adjusted for the"
                " number of rows, and the greatest that runs not observed leave possible.",
                pairs,
            )
    if any(answer.table["diverging"].to_numpy().sum() for answer in given):
        yield _table(
            "Flows that look as if they went off to infinity",
            "Fits of |theta(t) - theta(0)|^degree over the last decades: exponent 0 is log t;"
            " all between least and greatest. No certificate, and no bound rests on it.",
            evidence(results),
        )


def _power_laws(results: xarray.Dataset):
    for variant, part in by_variant(results):
        law = power_law(part)
        yield {**variant} | {
            "exponent": law.exponent,
            "low": law.low,
            "high": law.high,
            "C": law.prefactor,
            "lack of fit, p": law.misfit,
            "refused": law.refused or None,
        }


def _versions(results: xarray.Dataset) -> list[tuple[str, str]]:
    recorded = [
        (key.removeprefix("version_"), str(value))
        for key, value in results.attrs.items()
        if key.startswith("version_") or key in ("python", "machine", "device")
    ]
    return [*recorded, ("page written with Python", platform.python_version())]
