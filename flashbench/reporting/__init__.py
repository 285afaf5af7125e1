"""Documents made from scores: tables, claims, figures, contact sheets, citations."""
