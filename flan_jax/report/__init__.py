"""Reports: tables, plots, HTML pages and comparisons."""
