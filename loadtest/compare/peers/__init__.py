"""Who is measured. Each does the same work: finds the key among all, spends one
of its requests, writes a line of usage, forwards over a kept connection."""
