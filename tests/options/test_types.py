"""Types of options: what each makes of a text, and of what a preset or a script holds. tests/bad_inputs has what they refuse."""

import click
import pytest

from spider_plugin.options.types import Bank, Blur, Pairs, Real, Seeds, Whole, Window

@pytest.mark.parametrize('kind, value, made', [
    (Whole(1, 9), '9', 9), (Whole(1, 9), 1, 1), (Whole(-2, 9), ' -2 ', -2),
    (Real(0, 1), '1e-3', 1e-3), (Real(0, 1), 1, 1.0), (Real(0, 1), 0.1, 0.1), (Real(0, 10**9), 1e9, 1e9),
    (Seeds(), '0-3,7', [0, 1, 2, 3, 7]), (Seeds(), ' 5 , 4294967295', [5, 2**32 - 1]), (Seeds(), '3-1,2', None),
    (Bank(), '100k', 100_000), (Bank(), 2, 2), (Bank(), 'online', 'online'), (Bank(), '100M', 10**8), (Bank(), '101M', None),
    (Pairs(9, 99), '0:3, 1 : 5', [(0, 3), (1, 5)]), (Pairs(9, 99), [(0, 3), (1, 5)], [(0, 3), (1, 5)]),
    (Pairs(9, 99), [(0, 100)], None), (Pairs(9, 99), [[0, 3]], None), (Pairs(9, 99), [(0, 3), (0, 4)], None),
    (Window(), '8-64', (8, 64)), (Window(), 16, (16, 16)), (Window(), (8, 64), (8, 64)), (Window(), (64, 8), None),
    (Blur(), '2', (2.0, None)), (Blur(), '2:300', (2.0, 300.0)), (Blur(), 1.5, (1.5, None)), (Blur(), (2.0, None), (2.0, None)),
    (Whole(0, 1), True, None), (Whole(0, 9), 2.5, None), (Whole(0, 9), [1], None), (Real(0, 1), {}, None),
    (Real(0, 1), 'nan', None), (Real(0, 1), float('nan'), None), (Seeds(), ['0'], None)])
def test_values(kind, value, made):
    if made is None:
        with pytest.raises(click.BadParameter):
            kind.convert(value, None, None)
    else:
        converted = kind.convert(value, None, None)
        assert converted == made and type(converted) is type(made)
