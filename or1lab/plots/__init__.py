"""Figures: one file a chapter, one function a figure, data frames in, matplotlib Figure out."""
