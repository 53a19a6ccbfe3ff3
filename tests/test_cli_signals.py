"""`spider run` and `spider train` pass signals on to the script, and do not leave it behind when they are killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

DEADLINE = 60
SCRIPT = '''
import os, signal, sys, time
def hear(signum, frame):
    with open('heard.tmp', 'w') as file:
        file.write(f'{signum} {os.getpid()}')
    os.rename('heard.tmp', 'heard')
    sys.exit(5)
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(signum, hear)
print('ready', flush=True)
time.sleep(600)
'''

@pytest.mark.parametrize(['sent', 'heard'], [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM),
                                             (signal.SIGHUP, signal.SIGHUP), (signal.SIGKILL, signal.SIGTERM)])
def test_the_script_hears_it(tmp_path, sent, heard):
    (tmp_path / 'script.py').write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, '-m', 'spider_plugin.cli', 'run', 'script.py'], cwd=tmp_path,
                               stdout=subprocess.PIPE, text=True, start_new_session=True,
                               env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))))
    try:
        assert process.stdout.readline() == 'ready\n'
        process.send_signal(sent)
        process.communicate(timeout=DEADLINE) # Until the script has closed its end, too.
        assert process.returncode == (-sent if sent == signal.SIGKILL else 5)
        signum, pid = map(int, (tmp_path / 'heard').read_text().split())
        assert signum == heard
        deadline = time.monotonic() + DEADLINE
        while os.path.exists(f'/proc/{pid}') and time.monotonic() < deadline: # Where there is no /proc, the pipe has said it.
            time.sleep(0.1)
        assert not os.path.exists(f'/proc/{pid}')
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
