"""Fathom: inference-time scaling. Better answers from a fixed model, under an explicit budget."""
