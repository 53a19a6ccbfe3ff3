"""The exceptions of the library. They know no command line; hosts/edge.py shows them where there is one."""

class SpiderError(ValueError):
    """An error that the user can fix: one sentence that names the option or file and the remedy.

    message:    the sentence.
    exit_code:  2, of a command that ends by it."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

class Failure(Exception):
    """An event that no change of options would mend, such as a process that died.

    message:    what happened.
    exit_code:  1, of a command that ends by it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
