r"""Checks of arguments that many classes share."""


def check_positive(name: str, **values: float) -> None:
    r"""Raises an error unless all arguments of :obj:`name` are positive.

    Raises:
        ValueError: If one is zero, negative or not a number.
    """
    for key, value in values.items():
        if not value > 0:
            raise ValueError(f"'{key}' needs to be positive in '{name}' (got {value})")


def check_dropout(name: str, **shares: float) -> None:
    r"""Raises an error unless :obj:`name` can drop these shares and still keep
    something.

    Raises:
        ValueError: If one lies outside :math:`[0, 1)`.
    """
    for key, share in shares.items():
        if not 0.0 <= share < 1.0:
            raise ValueError(
                f"'{key}' needs to lie in [0, 1) in '{name}' (got {share})"
            )
