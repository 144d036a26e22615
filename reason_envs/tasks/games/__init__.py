"""The rules of the grid games: plain functions on plain dataclasses."""
