"""One offline HTML page of a run, a sweep or a comparison, its figures as SVG, PDF and CSV."""
