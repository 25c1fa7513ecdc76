"""What commands print of results."""

from typing import Any


def say_remarks(results: Any) -> None:
    """Print what a reader of results should know.

    Args:
        results: as given by `load`.
    """
    from ..store import remarks

    for sentence in remarks(results):
        print(f"Remark: {sentence}")


def say_answer(answer: Any, question: Any, results: Any) -> None:
    """Print an answer: probabilities, what they rest on, and learning numbers.

    Args:
        answer: as given by `answers.answers`.
        question: what was asked.
        results: as given by `load`.
    """
    from ..answers import as_text, evidence, in_words, variant_name

    print(f"P({answer.event})\n{as_text(answer.table)}\n")
    if answer.table["diverging"].to_numpy().any():
        table = as_text(evidence(results), index=False)
        print(f"Off to infinity, by fits of the distance:\n{table}\n")
    if answer.not_observed:
        print(f"{answer.not_observed}. The intervals hold whatever these would have done.")
    for variant, number, generous in answer.numbers:
        where = f" ({variant_name(variant)})" if variant else ""
        print(f"Learning number at delta = {question.delta:g}{where}: {in_words(number)}.")
        if generous != number:
            print(f"  If all undecided flows converged: {in_words(generous)}.")
    print()
