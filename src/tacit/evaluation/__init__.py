"""Answering questions, exact match, speed, statistics."""
