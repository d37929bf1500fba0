"""All programs as one command: `sentiment-pipelines NAME`, or `python -m pipelines NAME`.

sentiment-pipelines fetch crowdflower
sentiment-pipelines train --help
"""

import sys
from difflib import get_close_matches
from importlib import import_module

from pipelines.console import command
from pipelines.console.terminal import printable

COMMAND = "sentiment-pipelines"
PROGRAMS = (
    "fetch",
    "train",
    "evaluate",
    "predict",
    "score",
    "status",
    "verify",
    "export",
    "publish",
)


def main() -> None:
    """Run the program that the command line names, with the flags behind its name."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in PROGRAMS:
        program = import_module(f"pipelines.{name}")
        command.run(program.load, f"{COMMAND} {name}", program.__doc__, arguments)
    elif name in ("-h", "--help"):
        print(f"usage: {COMMAND} [--version] {{{','.join(PROGRAMS)}}} [flags]\n")
        for each in PROGRAMS:
            summary = (import_module(f"pipelines.{each}").__doc__ or "").partition("\n")[0]
            print(f"  {each:10}{summary}")
        print(f"\n{COMMAND} NAME --help explains the flags of a program.")
    elif name == "--version":
        import sentiment

        print(COMMAND, sentiment.__version__)
    else:
        meant = get_close_matches(name, PROGRAMS, 1)
        hint = f"did you mean {meant[0]}?" if meant else f"the programs: {' '.join(PROGRAMS)}"
        print(f"error: there is no program {printable(name)}: {hint}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
