"""Errors of the library know no click; at the edge each is a sentence on stderr and an exit code."""

import pickle
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from spider_plugin.errors import Failure, SpiderError
from spider_plugin.hosts import edge

def test_errors_without_a_command_line():
    code = ('import sys; from spider_plugin.errors import SpiderError; '
            'assert "click" not in sys.modules and issubclass(SpiderError, ValueError)')
    subprocess.run([sys.executable, '-c', code], check=True)
    for cls, exit_code in ((SpiderError, 2), (Failure, 1)):
        error = pickle.loads(pickle.dumps(cls('give another.')))    # as it comes from another process
        assert (type(error), str(error), error.message, error.exit_code) == (cls, 'give another.', 'give another.', exit_code)
        assert not isinstance(error, click.ClickException)

def fail(error):
    raise error

def guarded(callback, **kwargs):
    command = click.Command('host', callback=callback, **kwargs)
    edge.guard(command)
    return command

@pytest.mark.parametrize('error', [SpiderError('give --data.'), Failure('rank 1 died.')])
def test_a_running_command_shows_them(error):
    command = guarded(lambda: fail(error))
    result = CliRunner().invoke(command, [])
    assert result.exit_code == error.exit_code and result.stderr == f'Error: {error.message}\n' and result.stdout == ''
    with pytest.raises(click.ClickException) as caught:
        command.main([], standalone_mode=False)
    assert caught.value.__cause__ is error and caught.value.exit_code == error.exit_code

def test_eager_callbacks_and_groups():
    eager = click.Option(['--preset'], is_eager=True, callback=lambda ctx, param, value: fail(SpiderError('eager.')))
    command = guarded(lambda **_: None, params=[eager])
    assert CliRunner().invoke(command, ['--preset=x']).stderr == 'Error: eager.\n'
    group = click.Group('group', commands={'host': command})
    result = CliRunner().invoke(group, ['host', '--preset=x'])
    assert result.exit_code == 2 and result.stderr == 'Error: eager.\n'

def test_other_errors_stay_as_they_are():
    result = CliRunner().invoke(guarded(lambda: fail(ValueError('a fault'))), [])
    assert isinstance(result.exception, ValueError) and result.exit_code == 1 and result.stderr == ''

def test_code_that_runs_at_import(capsys):
    with pytest.raises(SystemExit) as caught, edge.exit_on_errors():
        fail(SpiderError('SPIDER_SHIMS=maybe means nothing.'))
    assert caught.value.code == 2 and capsys.readouterr().err == 'Error: SPIDER_SHIMS=maybe means nothing.\n'
