"""Pictures in one style: grids, strips, scatter plots, curves, structure diagrams.

Sheets of pixels (`grid`, `strip`, `compare`, `pairs` in `grid`; error maps for them in `heat`) are Pillow images;
figures with axes (`curves`, `scatter`, `histograms`) are matplotlib's. `save` writes both.
"""
