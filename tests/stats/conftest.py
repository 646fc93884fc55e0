"""Hypothesis on shared, busy machines: how long an example takes says nothing of the code."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("popq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("popq")
