"""Export: rows of the catalogue, written to files that other programs read.

Its libraries are csv and pyarrow. It writes under a temporary name and renames, so that a file is
there whole or not at all, and reads in stretches, so that a file may be longer than memory.
"""
