"""Puts ``tests/`` on the path, so that every test can use the servers and models that lie here."""
