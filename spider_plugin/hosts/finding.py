"""A line of `spider doctor`: one fact about this machine or a checkout, with a remedy if it is a fault."""

import dataclasses

@dataclasses.dataclass(frozen=True)
class Finding:
    topic:  str
    text:   str
    remedy: str | None = None   # None if the fact is not a fault.

    def __str__(self):
        return f'{"FIX" if self.remedy else "ok":<5s}{self.topic:<13s}{self.text}' + (f': {self.remedy}' if self.remedy else '')

def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]

def last_line(text):
    return (text.strip() or 'no message').splitlines()[-1]
