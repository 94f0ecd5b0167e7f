"""Experiments: recipes of the papers, runs, published points, claims, tables, figures and the HTML report."""
