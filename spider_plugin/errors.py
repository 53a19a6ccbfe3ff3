"""The exceptions of the library. They know no command line; hosts/edge.py shows them where there is one.

Their sentences hold texts from files: names of classes, of sources, of the files themselves. Such a text can hold escapes that
steer a terminal, or line ends that begin a line of its own. `printable` and `shown` are the way of all of them to a terminal."""

import errno

MAX_LINE = 2000     # Most letters of a line that is printed.

def printable(text: object, limit: int = MAX_LINE) -> str:
    """Return a text for one line: letters that a terminal would obey or hide are escaped, and it is cut after `limit` letters."""
    line = str(text)[: 2 * limit + 1]
    if not line.isprintable():
        line = ''.join(letter if letter.isprintable() else letter.encode('unicode_escape', 'surrogatepass').decode()
                       for letter in line)
    return line if len(line) <= limit else line[: limit - 3] + '...'

def shown(text: object, limit: int = 160) -> str:
    """Return a text from a file, or the message of an error about one, for a place in a sentence: on one line, ASCII, cut."""
    return ascii(' '.join(str(text)[: 8 * limit].split()))[1:-1][:limit]

#----------------------------------------------------------------------------

class _Sentence(Exception):
    """An error whose message is one line."""

    exit_code: int

    def __init__(self, message: str) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message

class SpiderError(_Sentence, ValueError):
    """An error that the user can fix: one sentence that names the option or file and the remedy.

    message:    the sentence.
    exit_code:  2, of a command that ends by it."""

    exit_code = 2

class Failure(_Sentence):
    """An event that no change of options would mend, such as a process that died.

    message:    what happened.
    exit_code:  1, of a command that ends by it."""

    exit_code = 1

#----------------------------------------------------------------------------

def reason(error: BaseException) -> str:
    """Return in few words what the system refused: of an error of many files, as shutil.Error is, what it says of the first."""
    first = error.args[0][0] if error.args and isinstance(error.args[0], list) and error.args[0] else None
    if isinstance(first, tuple):
        return shown(str(first[-1]).partition('] ')[2].partition(':')[0] or first[-1], 80)
    return getattr(error, 'strerror', None) or shown(error, 80) or type(error).__name__

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
