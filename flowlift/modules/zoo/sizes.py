"""Refusals that the builders share."""


def check_sizes(**sizes: int) -> None:
    """Refuse a size that is no integer of at least 1.

    Args:
        **sizes: the arguments by name.

    Raises:
        ValueError: for the first such size.
    """
    for name, value in sizes.items():
        _check_size(name, value)


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones.

    Args:
        name: the argument.
        value: the word.
        known: the words it may be.

    Raises:
        ValueError: if it is another.
    """
    if value not in known:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(known)}, but is {value!r}; choose one."
        )


def _check_size(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1, but is {value!r}; "
            "give the dimension."
        )
