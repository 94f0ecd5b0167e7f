"""Recipes of the papers, runs, published points, claims, tables, figures, the HTML report."""
