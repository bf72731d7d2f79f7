"""What the parts have in common: photographs, networks, ways to make codes, timing, tables."""
