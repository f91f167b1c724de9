"""Binding: which inputs of the group's signature a model reads, decided once when the model is loaded.

A model names its features, and binds by those names: any subset of the signature in any order. Only a model whose
features carry no names of their own (or the placeholders libraries make up) binds by position. Pure functions.
"""

import re
from collections.abc import Sequence
from typing import Final

from registry.signature import Signature
from workers.errors import SignatureMismatchError

# LightGBM writes Column_0, XGBoost f0, scikit-learn x0, pandas-less exports feature_0 or feature0.
_PLACEHOLDER: Final = re.compile(r"(Column_|feature_?|f|x)(\d+)")


def bind_inputs(names: Sequence[str], signature: Signature) -> tuple[int, ...]:
    """Positions of the signature's inputs that a model with these feature names reads, in the model's order.

    Raises:
        SignatureMismatchError: naming the unknown or repeated name, or both counts when positions do not add up.
    """
    positions = signature.positions
    unknown = [name for name in names if name not in positions]
    if unknown and _are_placeholders(names):
        return bind_count(len(names), signature)
    if unknown:
        raise SignatureMismatchError(
            f"the model reads {unknown[0]!r}, which is no input of the signature; its inputs are {_listed(signature)}",
            field=unknown[0],
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise SignatureMismatchError(f"the model names its feature {twice!r} twice", field=twice)
    return tuple(positions[name] for name in names)


def bind_count(count: int, signature: Signature) -> tuple[int, ...]:
    """Positions of a model whose `count` features have no names: all inputs in order.

    Raises:
        SignatureMismatchError: if the signature has another number of inputs.
    """
    if count != len(signature.inputs):
        raise SignatureMismatchError(
            f"the model has {count} unnamed features, so it must read all inputs of the signature, which are "
            f"{len(signature.inputs)}: {_listed(signature)}",
        )
    return tuple(range(count))


def _are_placeholders(names: Sequence[str]) -> bool:
    """Whether the names are one made-up prefix, counted from 0 (or, as some exporters do, from 1)."""
    found = [_PLACEHOLDER.fullmatch(name) for name in names]
    if not all(found):
        return False
    prefixes = {match[1] for match in found if match}
    numbers = [int(match[2]) for match in found if match]
    return len(prefixes) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] <= 1


def _listed(signature: Signature, most: int = 20) -> str:
    names = [spec.name for spec in signature.inputs]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
