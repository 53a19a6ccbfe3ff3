"""The options that `spider train` chooses, from a measure that is given here."""

import pytest

from spider_plugin.automatic import choice

def plans(on_cpu=True, features=True, side=256, **given):
    return choice.plans(on_cpu, features, side, given)

def test_the_device_and_the_pictures_bound_the_size():
    assert plans()[0] == choice.Plan('fastgan_lite', 64, 8, 4096, 128)
    assert plans(features=False) == [choice.Plan('dcgan', 64, 16), choice.Plan('dcgan', 32, 16)]
    assert plans(side=32, features=False) == [choice.Plan('dcgan', 32, 16)]
    assert plans(on_cpu=False, features=False) == [choice.Plan('stylegan2', 256, 16, 16384)]
    assert plans(on_cpu=False)[0].resolution == 256 and plans(on_cpu=False, side=128)[0].disc_size == 224

def test_what_the_user_gives_wins():
    found = plans(resolution=128, batch=4, cbase=512)
    assert {(plan.resolution, plan.batch, plan.cbase) for plan in found} == {(128, 4, 512)}

def test_gamma():
    assert plans()[0].gamma == 0 and plans(features=False)[0].gamma == 0.5
    assert plans(on_cpu=False, features=False)[0].gamma == 0.82     # 0.0002 * 256^2 / 16

def test_the_first_plan_that_is_fast_enough_is_taken():
    rows = plans()
    fast = choice.pick(rows, [1], lambda plan, threads: (1.0, 1.0))
    assert fast.plan == rows[0] and fast.length == 200     # 6.9 hours
    seconds = {plan: 20.0 - i for i, plan in enumerate(rows)}
    slow = choice.pick(rows, [1], lambda plan, threads: (seconds[plan], seconds[plan]))
    assert slow.plan == rows[-1] and slow.length == 25
    middle = choice.pick(rows, [1], lambda plan, threads: (20.0, 20.0) if plan == rows[0] else (2.0, 2.0))
    assert middle.plan == rows[1]

def test_threads_are_tried_and_not_on_a_busy_machine():
    quick = choice.pick(plans(), [1, 2], lambda plan, threads: (2.0 / threads, 2.0))
    assert (quick.threads, quick.now, quick.alone) == (2, 1.0, 1.0)
    trap = choice.pick(plans(), [1, 2], lambda plan, threads: (2.0 * threads ** 3, 2.0))
    assert trap.threads == 1
    busy = choice.pick(plans(), [1, 2], lambda plan, threads: (8.0, 2.0))
    assert (busy.threads, busy.now, busy.alone) == (1, 8.0, 2.0) and busy.length == 100
    lines = choice.estimate(busy, 100, 'cpu')
    assert lines[0] == 'One iteration of 8 images takes 8 s here (cpu, 1 thread), so 100 kimg take about 28 hours.'
    assert 'alone, an iteration would take 2 s, and 100 kimg 6.9 hours' in lines[1]

@pytest.mark.parametrize('kimg, words', [(100, '1000 kimg would take 3 days'), (25000, 'Try --kimg=100: 6.9 hours')])
def test_the_estimate_says_what_more_takes_and_what_fits(kimg, words):
    found = choice.Measured(plans()[0], 2, 2.0, 2.0)
    assert any(words in line for line in choice.estimate(found, kimg, 'cpu'))

def test_a_tick_is_a_minute():
    assert choice.Measured(plans()[0], 1, 2.0, 2.0).tick == 30 * 8 / 1000
    assert choice.Measured(plans()[0], 1, 300.0, 300.0).tick == 8 / 1000

@pytest.mark.parametrize('hours, words', [
    (0.01, '1 minutes'), (1, '60 minutes'), (6.54, '6.5 hours'), (60, '2 days'), (300, '12 days')])
def test_words(hours, words):
    assert choice.words_of(hours) == words
