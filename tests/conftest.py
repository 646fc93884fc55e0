"""What all tests share: no settings from outside, and Hypothesis that times nothing."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes on a shared, busy machine says nothing of the code.
settings.register_profile("popq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("popq")

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so would all the
# processes that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Torch's threads spin while they wait for each other, and would for the cores of another test.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How wide and colourful it is outside says nothing of what a test asked for.
for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"):
    os.environ.pop(name, None)


def pytest_xdist_auto_num_workers():
    """One more than cores, as tests wait half of their time; few, as each may load torch."""
    return min(os.cpu_count() or 1, 3) + 1


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path_factory):
    """Run each test with popq's defaults, in an empty folder of its own, and leave none behind.

    A command that is called in this process (`--set`) sets them for whatever is made later.
    """
    _forget_settings()
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    _forget_settings()


def _forget_settings():
    for name in list(os.environ):
        if name.startswith("POPQ_") and not name.startswith("POPQ_TEST_"):
            del os.environ[name]
