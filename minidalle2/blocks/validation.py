"""One sentence for a config that cannot work."""


def require(condition: bool, fault: str) -> None:
    """Raises ValueError with `fault` unless `condition` holds."""
    if not condition:
        raise ValueError(fault)


def require_positive(config: object, names: str) -> None:
    """Raises ValueError unless each field in `names`, separated by spaces, is 1 or more."""
    for name in names.split():
        value = getattr(config, name)
        require(value >= 1, f"{type(config).__name__}: {name} is {value}; it must be 1 or more")
