"""Which popq this is: its version and a hash of its source, so that a score says what computed it.

Not the commit of a checkout: an installed popq has none, and files that were edited since would
hide behind it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import popq


@cache
def of_code() -> str:
    """Return the version, a plus sign, and 12 hex digits of the sha256 over popq's modules."""
    folder = Path(popq.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{popq.__version__}+{digest.hexdigest()[:12]}"
