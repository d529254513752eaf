"""Judges: how votes are counted, when to stop, verifiers and scorers. ``judges.registry`` has them by name."""
