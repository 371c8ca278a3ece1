"""Reads finished runs: compares them, and draws a page of them. Knows run folders, never trains."""
