"""Arithmetic, pure: moments, tiers, splits, metrics, predictors without pixels.

Libraries: numpy, scipy, scikit-learn. No input or output, no clock, no state.
"""
