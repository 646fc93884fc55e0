"""Bytes to pixels to arrays: fetch, decode, store, pack.

Libraries: pycurl, Pillow, fsspec, numpy. One recipe of decoding (`decode`) serves moments and
pack alike, so that both see the same pixels. This room knows nothing of Flickr or the catalogue.
"""
