"""The header of a checkpoint as a popq wrote it that kept no sha256."""

import json

from safetensors import safe_open


def of_before(path):
    """Return the file's header without its sha256, for `save_file`."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["popq"])
    del facts["sha256"]
    return {"popq": json.dumps(facts)}
