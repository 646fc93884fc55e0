"""Numbers as a page shows them, each with a name and its exact value for who reads the HTML."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from markupsafe import Markup

_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: A probability below this is written with a power of ten.
_SMALL: Final = 0.001


def number(name: str, value: float | None, form: str = "count") -> Markup:
    """Return a number in its `form` (a key of `FORMS`), with its name in data-q, exact in data-v.

    None, for what is undefined or was not measured, is a dash without a value.
    """
    if value is None:
        return Markup('<span class="none">&ndash;</span>')
    shown = FORMS[form](value) if math.isfinite(value) else str(value)
    return Markup('<span data-q="{}" data-v="{}">{}</span>').format(name, repr(value), shown)


def power(value: float) -> str:
    """Return a probability with two digits, a small one as a power of ten (2.1e-8 on paper)."""
    if value >= _SMALL:
        return f"{value:.2g}"
    if value == 0:
        return "0"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits} {_TIMES} 10{str(int(exponent)).translate(_RAISED)}"


def plain(value: float) -> str:
    """Return a setting or a cut as short as it can be read back to six digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


FORMS: Final[dict[str, Callable[[float], str]]] = {
    "count": lambda value: f"{value:,.0f}",
    "share": lambda value: f"{100 * value:.1f} %",
    "two": lambda value: f"{value:.2f}",
    "three": lambda value: f"{value:.3f}",
    "power": power,
    "plain": plain,
    "id": str,
}
