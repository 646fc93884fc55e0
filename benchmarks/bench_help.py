"""Does `popq --help` take less than 3 times `import click`, with nothing but click loaded?

Whole processes in turns, medians of wall time: `python -m popq --help` and the peer, `python -c
"import click"`; CPU time, steadier on a busy machine, is reported beside it. Also claimed: of popq
the help loads only `popq.cli.main`, its `voice` and `popq.errors`, and of other packages only
click, so torch least of all. Prints JSON; exits 1 on a miss.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Cost, environment, run

CEILING = 3.0
TURNS = 15
PEER = "import click"
ALLOWED = {"popq", "popq.cli", "popq.cli.main", "popq.cli.voice", "popq.errors"}

#: Prints every module that the help has loaded; what Python itself loads at its start is left out.
LOADED = """
import sys
before = set(sys.modules)
sys.argv = ["popq", "--help"]
from popq.cli.main import main
try:
    main()
except SystemExit:
    print("\\nLOADED", *sorted(set(sys.modules) - before))
"""


def loaded(cwd: Path, env: dict[str, str]) -> set[str]:
    command = [sys.executable, "-c", LOADED]
    out = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=True)
    mark, *names = out.stdout.splitlines()[-1].split()
    if mark != "LOADED":
        raise SystemExit("`popq --help` did not end as it should")
    return set(names)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(folder)

        def popq() -> Cost:
            return run("-m", "popq", "--help", cwd=folder, env=env)

        def peer() -> Cost:
            return run("-c", PEER, cwd=folder, env=env)

        modules = loaded(folder, env)
        popq()  # both compile their modules once
        peer()
        pairs = []
        for number in range(TURNS):
            first, second = (popq, peer) if number % 2 else (peer, popq)
            costs = {side: side() for side in (first, second)}
            pairs.append((costs[popq], costs[peer]))
    ours = {module for module in modules if module.partition(".")[0] == "popq"}
    packages = {module.partition(".")[0] for module in modules - ours} - sys.stdlib_module_names
    unwanted = sorted((ours - ALLOWED) | (packages - {"click"}))
    popq_ms, peer_ms = (
        statistics.median(cost.wall for cost in side) * 1000 for side in zip(*pairs, strict=True)
    )
    ratio = popq_ms / peer_ms
    cpu_ratio = statistics.median(mine.cpu / theirs.cpu for mine, theirs in pairs)
    result = {
        "name": "help",
        "ratio": round(ratio, 3),
        "ceiling": CEILING,
        "ok": ratio < CEILING and not unwanted,
        "popq_ms": round(popq_ms, 1),
        "peer_ms": round(peer_ms, 1),
        "cpu_ratio": round(cpu_ratio, 3),
        "torch_loaded": "torch" in packages,
        "unwanted_modules": unwanted,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
