"""How a process is asked to stop: what a signal must reach, wherever it comes in."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

#: The kernel gives the signal to the other thread, so that the main one sleeps on, as it does when
#: the signal comes just before its sleep.
UNWOKEN = """
import signal, threading
from popq import stopping
stop = threading.Event()
stopping.on_signals(stop.set)
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("waits", flush=True)
stopping.wait(stop)
"""

#: The signal comes while the main thread holds what stopping needs: a line of progress, say.
#: It is kept back until it is there, so that its handler runs at the unblocking and nowhere else.
BUSY = """
import signal, threading, time
from popq import stopping
stop, line = threading.Event(), threading.Lock()
def ask():
    with line:
        stop.set()
with stopping.asked(ask):
    with line:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        print("waits", flush=True)
        while not signal.sigpending():
            time.sleep(0.01)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    stopping.wait(stop)
"""


@pytest.mark.parametrize("code", [UNWOKEN, BUSY], ids=["not woken", "busy"])
def test_a_signal_is_heard_whatever_the_main_thread_is_at(code):
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
