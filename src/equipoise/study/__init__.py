"""Studies: many short games over a grid of settings, with pictures and a table of what came out."""
