"""popq: a database-backed batch job system for the popularity of Flickr photos."""

__version__ = "0.1.0"
