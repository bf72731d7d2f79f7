"""What the parts have in common: images, networks, ways to make codes, timing, tables."""
