"""A Flickr-compatible HTTP server for tests, the demo and `popq fake-flickr`.

It answers as FLICKR.md sections 1 and 2 record real Flickr to answer: `world` holds the photos and
what became of them, `renditions` their sizes, `faults` what goes wrong and when, `accounts` checks
keys and signatures, `rest` answers the API, `static` the image host, `counters` counts what
clients did, `reply` puts an answer on the wire and `server` listens.
"""
