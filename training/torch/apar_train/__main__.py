"""python -m apar_train COMMAND ...: one subcommand per module. torch is imported only by the module that runs."""

import argparse
import errno
import importlib
import sys
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional

from . import options
from .errors import InputError


@dataclass(frozen=True)
class Command:
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    # Has run(args: argparse.Namespace) -> bool: False if a signal ended it early.
    module: str


# As of a program that Ctrl-C has ended.
STOPPED = 130

COMMANDS: Dict[str, Command] = {
    "sft": Command("teach a model to fork: full or LoRA", options.add_sft, "apar_train.run.sft"),
    "medusa": Command("train Medusa heads on a frozen model", options.add_medusa, "apar_train.run.medusa"),
    "evaluate-medusa": Command(
        "held-out accuracy of Medusa heads", options.add_evaluate_medusa, "apar_train.run.evaluate_medusa"
    ),
    "evaluate-loss": Command(
        "held-out losses of a model", options.add_evaluate_loss, "apar_train.run.evaluate_loss"
    ),
}


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="apar_train", description="Trains models that fork (docs/training.md).")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(subparsers.add_parser(name, help=command.help, description=command.help))
    args = parser.parse_args(argv)
    try:
        ended = importlib.import_module(COMMANDS[args.command].module).run(args)
    except InputError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"disk_full: {error.filename or 'the disk'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0 if ended else STOPPED


if __name__ == "__main__":
    sys.exit(main())
