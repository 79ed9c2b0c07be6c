"""How the trainer refuses bad input: a code and one sentence, no stack trace."""


class InputError(Exception):
    """What a user can mend. `code` is one of the project's: invalid_request, broken_checkpoint,
    unsupported_checkpoint, data_too_small, foreign_folder, disk_full."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
