"""Callbacks that let a Watch follow the training loops of other libraries; each needs its library."""
