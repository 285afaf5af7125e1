"""Is one set of videos better than another: pairs, tests, verdicts and their report."""
