"""Puts this folder last on the path, for its modules, and has the process that tries the inputs."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spider_plugin.resources import resource_dir

HERE = Path(__file__).parent
sys.path.append(str(HERE))

#----------------------------------------------------------------------------

class Runner:
    """bad_runner.py as a process. One that hangs on an input is ended, and a new one started for the next."""

    PATIENCE = 120      # seconds

    def __init__(self):
        self.process = None

    def ask(self, request):
        if self.process is None:
            self.start()
        watch = threading.Timer(self.PATIENCE, self.process.kill)
        watch.start()
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.answers.readline()
        watch.cancel()
        if not answer:
            code = self.close()
            raise AssertionError(f'the process ended with code {code}, or hung')
        return json.loads(answer)

    def start(self):
        reading, writing = os.pipe()
        env = dict(os.environ, PYTHONPATH=str(resource_dir('patches').parent))
        self.process = subprocess.Popen([sys.executable, HERE / 'bad_runner.py', str(writing)], text=True, env=env,
                                        pass_fds=[writing], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(writing)
        self.answers = os.fdopen(reading)

    def close(self):
        process, self.process = self.process, None
        if process is not None:
            process.stdin.close()
            process.wait()
            self.answers.close()
            return process.returncode

@pytest.fixture(scope='module')
def runner():
    runner = Runner()
    yield runner
    runner.close()
