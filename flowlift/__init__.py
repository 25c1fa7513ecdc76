"""Exact gradient flow for random sparse lifts, and for any equinox model."""
