"""Phases in spectrum images: how well they are named, shared out and denoised, at every dose and with few labels."""
