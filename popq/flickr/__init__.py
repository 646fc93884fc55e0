"""Asking Flickr: links, the API client, what its answers mean, and a Flickr-compatible server.

Libraries: flickrapi, requests. This room knows nothing of the catalogue: it takes plain values and
returns plain values or raises an error of `popq.errors`.
"""
