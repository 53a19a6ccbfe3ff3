"""--resume without an option of the plugin, in a host that unpickles the snapshot itself: what the plugin knows of it beforehand.

The host copies what fits by name and says nothing of the rest. So the launch says which tensors have no counterpart, by the plan
and in the words that a resume with an option has (snapshots/resume_plan.py)."""

import os

from spider_plugin.errors import SpiderError

def read_resumed(c):
    """Return the contents of the snapshot that a host's config resumes from, {name: record}.

    None without one, for a file that the restricted reader does not open, and for a URL that cannot be fetched: those are left to
    the host, as without the plugin.

    Raises SpiderError for a snapshot of training that diverged, for one whose bytes have changed since it was written, and for a
    file that no host can read, such as a web page."""
    if not isinstance(c.get('resume_pkl'), str):
        return None
    from spider_plugin.files.checksum import Changed
    from spider_plugin.files.recognise import HOPELESS, Foreign
    from spider_plugin.hosts.capabilities import Host
    from spider_plugin.snapshots.records import read_pickle
    from spider_plugin.snapshots.resume_plan import check_resumable
    try:
        path = Host(c).local_file(c['resume_pkl'])
        contents = read_pickle(path)
    except Changed:
        raise
    except Foreign as error:
        if error.kind.name in HOPELESS:
            raise SpiderError(f'--resume: {error.message}') from error
        return None
    except Exception: # Of the reader, or of any type of a host's way to fetch a URL.
        return None
    check_resumable(path, contents)
    return contents

def continues_source(contents):
    """Return whether the result of read_resumed() holds a Spider generator, whose source then goes on."""
    from spider_plugin.options.resume import generator_of, is_spider
    return contents is not None and is_spider(generator_of(contents))

def plan_lines(c, contents, host):
    """Return lines about the tensors that have no counterpart, for the networks that a host's config trains; none where all have.

    contents: the result of read_resumed(c). Networks that cannot be built here are left out; ranks but the first say nothing."""
    if int(os.environ.get('RANK', 0)) != 0:
        return []
    from spider_plugin.snapshots.resume_plan import NETWORKS, make_plan
    try:
        modules = host.networks()
    except Exception:   # of a host's code, in an environment that it may not have been made for
        return []
    plans = [make_plan(name, contents[name].state_dict(), modules[name[0]]) for name in NETWORKS
             if hasattr(contents.get(name), 'state_dict') and modules[name[0]] is not None]
    lines = [f'--resume: {plan.line(others="at which this host may stop")}' for plan in plans
             if plan.new or plan.unused or plan.differ]
    if any(plan.is_of_another(modules[plan.network[0]]) for plan in plans if plan.network[0] == 'G'):
        lines.append('Warning: next to nothing of the snapshot fits, so training begins from new networks; resume from a '
                     'snapshot of the same architecture')
    return lines
