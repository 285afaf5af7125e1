"""Figures of protocols."""
