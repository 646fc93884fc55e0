"""`python -m popq` is the `popq` command."""

from popq.cli.main import main

if __name__ == "__main__":
    main()
