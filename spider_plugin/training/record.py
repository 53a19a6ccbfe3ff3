"""What made a run, for the run itself: the source, its match and its mapping, the snapshot that the user resumed, the lines of
the launch log, the trackers. They are in training_options.json as `spider_run`, in the name of the run, and in its log.txt.

The launch log is printed before a run has a folder. It goes to the ranks by an environment variable, as the config, which hosts
print, would say everything twice."""

import json
import os
import re
from typing import Any

from spider_plugin.errors import printable
from spider_plugin.files.download import hidden
from spider_plugin.files.limits import MOST_JSON, parse_json, read_file
from torch_utils_ext.cache_root import cache_root

KEY   = 'spider_run'
LOG   = 'SPIDER_LAUNCH_LOG'     # environment variable, JSON
_LONGEST = 200  # bytes of the name of a run, which gets a number in front
_NAME = 24     # most letters of the source in the name of a run

def record_of(c: dict[str, Any], resumed: str | None) -> dict[str, Any]:
    """Return the record of a run, JSON.

    c:          the host's config, as the options have edited it.
    resumed:    what the user resumes: a path or URL, as given but for a login; None for a fresh run.
    returns     'source' (None, or name, sha256, transform, licence, match, mapping, noise, skip), 'resumed', and what other
                options have put there, such as 'track'."""
    return dict(c.get(KEY) or {}, source=_source(c.get('G_kwargs', {}).get('spider')),
                resumed=resumed and hidden(str(resumed)))

def _source(spider):
    if not isinstance(spider, dict):
        return None
    try:
        bank = os.path.join(cache_root(), spider['source'], 'bank.json')
        identity = parse_json(read_file(bank, MOST_JSON))['identity']
    except (OSError, ValueError, KeyError, TypeError):      # A source of another package need not have one.
        identity = {}
    texts = {key: identity.get(key) for key in ('name', 'sha256', 'transform', 'licence')}
    return texts | dict(match='covariance' if 'match' in identity else 'none', mapping=spider.get('mapping'),
                        noise=spider.get('noise'), skip='learned' if spider.get('learn_skip') else 'fixed')

def name_with(name: str, record: dict[str, Any]) -> str:
    """Return the name of a run with its source, 'NAME-from-crayon-residual-matched', unless that is too long for a folder."""
    longer = name + _words(record['source'])
    return longer if len(longer.encode()) <= _LONGEST else name

def _words(source):
    if source is None:
        return ''
    name = re.sub('[^A-Za-z0-9]+', '_', source['name'] or 'source')[:_NAME].strip('_')
    return f'-from-{name or "source"}-{source["mapping"]}' + '-matched' * (source['match'] != 'none')

def hand_on_log(lines: list[str]) -> None:
    """Leave the launch log for the ranks that this process is about to start."""
    os.environ[LOG] = json.dumps([printable(line) for line in lines])

def write_log(run_dir: str) -> None:
    """Append the launch log that was handed on, if there is one, to log.txt of a run that has such a file."""
    lines, path = json.loads(os.environ.pop(LOG, '[]')), os.path.join(run_dir, 'log.txt')
    if lines and os.path.isfile(path):
        with open(path, 'a', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')

def read(path: str) -> dict[str, Any] | None:
    """Return the record in the run folder that holds the file at `path`, None where there is none that can be read."""
    try:
        options = os.path.join(os.path.dirname(os.path.abspath(path)), 'training_options.json')
        found = json.loads(read_file(options, MOST_JSON)).get(KEY)
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
