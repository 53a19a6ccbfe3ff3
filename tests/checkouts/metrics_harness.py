"""Evaluates the operators of a host's equivariance metrics. See harness.py."""

import importlib
import sys

import harness
import torch

def theirs(images, whole, shifts, angles):
    """Return the results of NVlabs/stylegan3's operators, {(operator, movement): (images, mask)}. Shifts are in pixels."""
    harness.mend()
    eq = importlib.import_module('metrics.equivariance')
    size = images.shape[-1]
    results = {}
    for names, movements in ((['apply_integer_translation'], whole), (['apply_fractional_translation'], shifts)):
        for tx, ty in movements:
            results[names[0], (tx, ty)] = getattr(eq, names[0])(images, torch.tensor(tx / size), torch.tensor(ty / size))
    for angle in angles:
        for name in ('apply_fractional_rotation', 'apply_fractional_pseudo_rotation'):
            results[name, angle] = getattr(eq, name)(images, torch.tensor(angle))
    return results

if __name__ == '__main__':
    host_dir, job, result = sys.argv[1:]
    sys.path.insert(0, host_dir)
    arguments = torch.load(job)
    arguments.pop('call')
    torch.save(theirs(**arguments), result)
