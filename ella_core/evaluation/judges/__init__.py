"""Judges: who answers the questions about a picture."""
