"""The exceptions of the library. They know no command line; hosts/edge.py shows them where there is one."""

import errno

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

# Parts of the messages by which torch, CUDA and numpy say that memory ran out.
MEMORY = ('out of memory', 'DefaultCPUAllocator', 'not enough memory', 'std::bad_alloc', 'ALLOC_FAILED', 'MemoryError',
          'Cannot allocate memory', 'Unable to allocate', "can't start new thread")

def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, that of this machine or of a GPU."""
    if isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, OSError) or not isinstance(error, RuntimeError):
        return False
    return any(words in str(error) for words in MEMORY)
