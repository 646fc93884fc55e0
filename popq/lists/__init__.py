"""Files that people bring, read as rows: lists of links, tables, JSON, Parquet, packed or not.

The only room with csv, pyarrow and JSON files. It knows shapes of files and nothing of photos; a
file is read as a stream, so memory stays flat whatever its length.
"""
