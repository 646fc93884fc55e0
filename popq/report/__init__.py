"""The report: rows of the catalogue to one HTML page that needs nothing beside it.

The only room with jinja2 and matplotlib. It reads the catalogue and the store, writes one file.
"""
