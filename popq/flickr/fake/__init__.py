"""A Flickr-compatible HTTP server for tests, the demo and `popq fake-flickr`.

It answers as FLICKR.md sections 1 and 2 record real Flickr to answer. `world` holds the photos and
what became of them; `photos` (one), `lists` (many) and `oembed` describe them, `renditions` and
`looks` draw them. `accounts` checks keys and signatures, `rest` answers the API, `static` the image
host. `faults` are what goes wrong and when, `plan` reads them from a file, `counters` counts what
clients did, and `desk` shows and switches both. `reply` is one answer, `wire` sends it, `server`
listens. docs/fake-flickr.md tells people how to use it.
"""
