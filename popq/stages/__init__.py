"""One verb of a photo's life per module: batch, ingest, resolve, download, dataset, train, score.

A stage joins the rooms: it opens the transactions, asks the catalogue what to do, has `flickr`,
`images`, `stats` or `learn` do it with no transaction open, and records what came of it.
"""
