"""Figures of benchmarks/gpu_all.sh beside what was expected of an H100 before any kernel had run on a GPU.

    python -m benchmarks.common.expected OUTDIR     # the folder that gpu_all.sh wrote

Where a figure lies outside its range, one of the two is wrong: that is where to look first. The expectations are estimates from
bytes and from the machine code of the kernels; nothing was measured for them. A rehearsal without a GPU prints no comparison."""

import json
import sys
from pathlib import Path

# Bandwidth of a kernel over that of a copy, for images of at least 128x128.
OF_COPY = {'depthwise': (0.8, 0.95), 'depthwise_backward': (0.75, 0.9), 'epilogue': (0.9, 1.0), 'affine_glu': (0.6, 0.9),
           'up2': (0.8, 1.0), 'up2_backward': (0.4, 0.55)}
LEAST_SIDE = 128

# Milliseconds of a forward and backward pass of StyleGAN2's synthesis network, by case and layers.
STEP = {'64x64 batch 32':    {'dense': (17, 22), 'factorised demodulation': (5, 6), 'DSC depthwise first': (6, 8)},
        '256x256 batch 16':  {'dense': (14, 18), 'factorised demodulation': (7, 9), 'DSC depthwise first': (8, 9)},
        '1024x1024 batch 4': {'dense': (16, 22), 'factorised demodulation': (12, 15), 'DSC depthwise first': (10, 13)}}

def comparisons(out: Path) -> list[tuple[str, float, tuple[float, float]]]:
    """Return (what, figure, (lowest, highest expected)) of the files in `out` that are there."""
    found = []
    for row in _read(out / 'kernel_bandwidth.json').get('rows', []):
        if row['kernel'] in OF_COPY and row['shape'][-1] >= LEAST_SIDE:
            shape = 'x'.join(map(str, row['shape']))
            found.append((f'{row["kernel"]} {shape}, of a copy', row['of_copy']['median'], OF_COPY[row['kernel']]))
    for case, result in _read(out / 'dsc_step.json').get('cases', {}).items():
        for name, row in result['rows'].items():
            if name in STEP.get(case, {}):
                found.append((f'StyleGAN2 {case}, {name}, ms', 1000 * row['seconds'], STEP[case][name]))
    return found

def lines(out: Path) -> list[str]:
    """Return a line for each comparison, or one that says there is none."""
    def verdict(value: float, low: float, high: float) -> str:
        return 'as expected' if low <= value <= high else f'{"BELOW" if value < low else "ABOVE"} what was expected'
    told = [f'{what}: {value:.2f}, expected {low:g} to {high:g}: {verdict(value, low, high)}'
            for what, value, (low, high) in comparisons(out)]
    return told or ['No figure of a GPU is here to compare with what is expected of one.']

def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}

if __name__ == '__main__':
    print('\n'.join(lines(Path(sys.argv[1]))))
