"""The `popq` command: one file per noun; each command is options, one call, one print.

Library: click. Data goes to stdout (`--json` wherever data is printed), progress and notes to
stderr. Nothing here is imported before its command runs, so that `popq --help` is quick.
"""
