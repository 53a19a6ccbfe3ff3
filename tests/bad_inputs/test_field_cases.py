"""What people's files and habits do to a command, kind by kind: the table says which test has each case, and tests of kinds that
have no other place follow.

FIELD are reports of users of StyleGAN codebases, PICKLES the network files that are found in the wild. Each test tries the case
and others of its kind; that every named test exists is a test, too."""

import ast
import json
import os
import pickle
from pathlib import Path

import bad_files
import numpy as np
import PIL.Image
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

# {number: (case, tests)}, below tests/
FIELD = {
    1:  ('a Spider snapshot is resumed without its source', 'options/test_resume.py::test_the_source_follows_its_snapshot',
         'options/test_resume.py::test_classes_and_skip_follow', 'test_stumbles.py::test_1_resuming_a_snapshot_keeps_its_source'),
    2:  ('a pickle of another size, family or depth is resumed',
         'hosts/test_plain_resume.py::test_what_has_no_counterpart_is_counted',
         'hosts/test_plain_resume.py::test_another_architecture_is_warned_of',
         'reference_host/test_resume_of_another.py::test_tensors_without_a_counterpart_are_counted',
         'reference_host/test_resume_of_another.py::test_nothing_of_g_is_refused'),
    3:  ('names of labels with folders, ./, capitals, other endings, \\', 'reference_host/test_one_reader.py::test_labels',
         'reference_host/test_one_reader.py::test_a_zip_with_the_slashes_of_windows'),
    4:  ('pixels of 16 bits, of floats, of wide integers', 'reference_host/test_one_reader.py::test_pictures'),
    5:  ('the target of a projection is read by the same rules', 'reference_host/test_one_reader.py::test_pictures'),
    6:  ('photos that EXIF turns', 'reference_host/test_one_reader.py::test_pictures',
         'reference_host/test_one_reader.py::test_rules'),
    7:  ('transparency of tRNS', 'reference_host/test_one_reader.py::test_pictures'),
    8:  ('HEIC, names without an ending, links', 'files/test_heif.py::test_without_the_package_pictures_are_left_out_and_counted',
         'reference_host/test_one_reader.py::test_what_is_left_out_is_counted_in_a_line',
         'reference_host/test_one_reader.py::test_links_and_doubles_of_a_zip_are_left_out'),
    9:  ('hidden files and those of the system', 'reference_host/test_one_reader.py::test_what_is_left_out_is_counted_in_a_line'),
    10: ('NaN in labels, rates beyond reason', 'reference_host/test_one_reader.py::test_labels',
         'bad_inputs/test_bad_inputs.py::test_one_sentence',
         'reference_host/test_state.py::test_snapshots_that_diverged_are_refused'),
    11: ('a JPEG named .png, a cut file, in a large set',
         'reference_host/test_dataset.py::test_faults_of_a_large_set_are_found_before_the_start_and_counted',
         'reference_host/test_dataset.py::test_a_jpeg_of_another_name_is_an_image'),
    12: ('a refused --resume leaves a run', 'bad_inputs/test_field_cases.py::test_a_refused_resume_leaves_no_run'),
    13: ('a full disk', 'files/test_disk.py::test_a_refusal_while_writing',
         'reference_host/test_endings.py::test_a_dataset_on_a_full_disk',
         'reference_host/test_faults.py::test_a_small_disk'),
    14: ('a score cannot be written', 'bad_inputs/test_field_cases.py::test_a_score_that_cannot_be_written_is_printed'),
    15: ('statistics of too few images', 'reference_host/test_metrics_shared.py::test_sets_too_small_for_a_metric_are_refused',
         'neighbors/test_compare.py::test_small_sets_are_refused'),
    16: ('class numbers that are ids', 'reference_host/test_one_reader.py::test_labels',
         'reference_host/test_dataset.py::test_class_ids_go_into_the_options_and_back'),
    17: ('little shared memory', 'reference_host/test_endings.py::test_little_shared_memory',
         'hosts/test_doctor.py::test_this_machine'),
    18: ('classes as 0.0, 1.0; an empty list', 'reference_host/test_one_reader.py::test_labels'),
    19: ('dataset_tool.py copies labels that train.py refuses',
         'reference_host/test_dataset_tool.py::test_labels_that_train_refuses_are_refused'),
    20: ('~ in a path', 'test_paths.py::test_every_path_of_a_command_knows_the_home_folder',
         'test_paths.py::test_every_path_of_the_reference_host', 'test_paths.py::test_a_run_at_home'),
    21: ('a metric that needs no moved set', 'bad_inputs/test_field_cases.py::test_a_set_that_has_moved'),
    22: ('SIGTERM to dataset_tool.py', 'reference_host/test_endings.py::test_a_stopped_dataset_tool_leaves_nothing'),
    23: ('letters that the output lacks', 'reference_host/test_endings.py::test_letters_that_the_output_lacks'),
    24: ('--resume=FOLDER', 'bad_inputs/test_field_cases.py::test_a_refused_resume_leaves_no_run'),
    25: ('an unreadable file and an address in memory', 'reference_host/test_one_reader.py::test_pictures',
         'bad_inputs/test_bad_inputs.py::test_one_sentence'),
    26: ('a source of one image; the frames of a GIF', 'bad_inputs/test_field_cases.py::test_sources_without_a_difference',
         'reference_host/test_one_reader.py::test_what_a_rule_changed_is_counted'),
}

# {kind: tests}, below tests/; a row each of the table of network files
_HELD, _PARTS, _FORK = (f'snapshots/test_{name}.py::test_' for name in ('held_classes', 'parts_of_snapshots', 'fork_generators'))
_FOREIGN = 'snapshots/test_foreign_files.py::test_'
PICKLES = {
    'stylegan2-ada-pytorch and stylegan3, conditional, grey, other architectures': (
        'checkouts/test_pickles_checkouts.py::*', 'snapshots/test_rebuild.py::*'),
    'four channels, as a source': (f'{_FORK}four_channels_of_a_known_class', f'{_FORK}images_of_another_shape'),
    'PYTHONPATH=checkout on a current stack': (f'{_FORK}commands_arm_the_shims',),
    'forks with the same networks': (f'{_HELD}modules_that_a_fork_has_moved',),
    'FastGAN of Projected GAN; z in double precision': (f'{_FORK}it_is_drawn_from',),
    'metrics of a fork name the reason': (f'{_HELD}a_whole_network_of_a_fork_is_named',),
    'dill: StyleGAN-XL': (f'{_HELD}arrays_of_dill', f'{_HELD}a_forged_array_of_dill_is_refused'),
    'bank=online of an unknown class': (
        f'{_FORK}online_is_refused_before_images_are_rendered',
        'sources/test_prepare_generator.py::test_a_fork_of_a_known_name_is_refused_before_images_are_rendered',
        'sources/test_prepare_generator.py::test_arguments_that_were_given_by_their_places'),
    'arguments of a fork that are off, or on': (f'{_FORK}features_of_a_fork_that_are_off_are_left_out',
                                                f'{_FORK}features_of_a_fork_that_are_on_are_named'),
    'arguments of a fork stay as recorded': (f'{_FORK}arguments_of_a_forks_own_generator_stay_where_they_are',),
    'images that are not square': (f'{_FORK}images_of_another_shape',),
    'a camera; a result that is a dict': (f'{_FORK}a_camera_is_named', f'{_FORK}it_is_drawn_from'),
    'classes of a fork beside G': (f'{_HELD}beside_the_network_it_is_held', f'{_HELD}inside_the_network_it_is_refused'),
    'a forward without truncation: R3GAN': (f'{_FORK}it_is_drawn_from', f'{_FORK}options_that_a_generator_does_not_have'),
    'a host with --preset': ('test_stumbles.py::test_11_a_host_with_a_preset_of_its_own',),
    'TensorFlow': (f'{_FOREIGN}tensorflow',),
    'G_ema alone, without G; a module; a tuple; G alone': (f'{_PARTS}a_whole_generator_is_drawn_from_at_every_door',
                                                           f'{_PARTS}plain_resume_names_what_is_missing'),
    'other names, inner dicts, wrappers': (f'{_PARTS}a_whole_generator_is_drawn_from_at_every_door',
                                           f'{_PARTS}a_generator_of_another_name_counts_as_g'),
    'torch.save, state dicts, safetensors': (f'{_FOREIGN}a_file_is_recognised_by_its_bytes', f'{_FOREIGN}every_door_says_it',
                                             'snapshots/test_import.py::*', f'{_PARTS}tensors_without_their_networks_are_named'),
    'folders of Hugging Face and TensorFlow': (f'{_FOREIGN}folders',),
    'pages, pointers, answers of servers': (f'{_FOREIGN}a_file_is_recognised_by_its_bytes', f'{_FOREIGN}every_door_says_it'),
    'archives': (f'{_FOREIGN}a_file_is_recognised_by_its_bytes', f'{_FOREIGN}a_source_is_recognised_whatever_its_name'),
    'cut and empty files': (f'{_FOREIGN}a_file_is_recognised_by_its_bytes', 'bad_inputs/test_bad_inputs.py::test_one_sentence'),
    'protocols 0 to 5': (f'{_HELD}every_protocol', f'{_HELD}damaged_and_hostile_lines'),
    'tensors of a GPU, halves': (f'{_HELD}tensors_that_were_on_a_device_come_to_the_cpu', f'{_HELD}weights_of_other_precisions'),
    'another architecture, resumed': ('hosts/test_plain_resume.py::test_an_attached_host_says_it_and_goes_on',
                                      'reference_host/test_resume_of_another.py::test_nothing_of_g_is_refused'),
    'code in a file': ('reference_host/test_hostile_snapshots.py::test_no_script_runs_it', 'snapshots/test_hostile.py::*'),
    'a fork that changes a default': ('snapshots/test_fork_defaults.py::test_a_fork_is_drawn_with_its_defaults',),
}

def test_every_case_has_its_tests():
    named = [test for _what, *tests in FIELD.values() for test in tests] + [test for tests in PICKLES.values() for test in tests]
    assert list(FIELD) == list(range(1, 27)) and len(PICKLES) >= 28
    for test in named:
        path, _, name = test.partition('::')
        defined = {node.name for node in ast.walk(ast.parse((ROOT / 'tests' / path).read_text(encoding='utf-8')))
                   if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')}
        assert defined and (name == '*' or name in defined), test

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def space(tmp_path_factory, make_snapshot):
    """Sets of images, and snapshots by what is odd about them."""
    path = tmp_path_factory.mktemp('cases')
    for name, mode in (('set', 'RGB'), ('grey', 'L')):
        bad_files.write_folder(path / name, bad_files.images(mode=mode))
    bad_files.write_folder(path / 'wide', bad_files.images(size=(32, 32)))
    whole = Path(make_snapshot()).read_bytes()
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema']
    files = dict(net=whole, half=whole[:20000], empty=b'', page=b'<html></html>', words=b'Entry not found',
                 g_ema=pickle.dumps({'G_ema': G}), state=pickle.dumps(G.state_dict()),
                 other=Path(make_snapshot(dcgan=True)).read_bytes(),
                 bare=pickle.dumps(torch.nn.Linear(1, 1)))
    for name, data in files.items():
        (path / f'{name}.pkl').write_bytes(data)
    (path / 'nothing').mkdir()
    (path / 'runs' / '00000-run').mkdir(parents=True)
    (path / 'runs' / '00000-run' / 'log.txt').touch()
    return path

TRAIN = ['--cfg=stylegan2', '--batch=4', '--gamma=1', '--cbase=256', '--cmax=16', '--map-depth=2', '--workers=0', '--kimg=0.004']

@pytest.mark.parametrize('resume, data, more', [
    *((f'{name}.pkl', 'set', []) for name in ('half', 'empty', 'page', 'words', 'g_ema', 'state', 'other', 'bare', 'missing')),
    ('net.pkl', 'set', []),                         # z and w of other lengths
    ('net.pkl', 'grey', []), ('net.pkl', 'set', ['--cmax=8']), ('net.pkl', 'set', ['--cfg=stylegan3-t']),
    ('net.pkl', 'set', ['--cond=1']),
    ('set', 'set', []), ('nothing', 'set', []), ('runs', 'set', []), ('runs/00000-run', 'set', []), ('set/0.png', 'set', [])])
def test_a_refused_resume_leaves_no_run(resume, data, more, runner, space, tmp_path):
    args = [f'--outdir={tmp_path}/out', f'--data={space}/{data}', f'--resume={space}/{resume}', *TRAIN, *more]
    answer = runner.ask(dict(command='train', args=args, folder=str(tmp_path)))
    said = answer['stderr'].splitlines()[-1]
    assert answer['code'] == 2 and answer['trace'] == '' and said.startswith('Error: --'), answer
    assert not (tmp_path / 'out').exists() and list(tmp_path.iterdir()) == []

class Probabilities(torch.nn.Module):
    """A detector that gives probabilities of three classes."""

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        return torch.softmax(img.to(torch.float32).mean(dim=[2, 3]) / 64, dim=1)

@pytest.fixture(scope='module')
def detector(space):
    torch.jit.script(Probabilities()).save(str(space / 'probabilities.pt'))
    return f'--detector={space}/probabilities.pt'

def moved(make_snapshot, path, **kwargs):
    """A snapshot at `path` whose training set is no longer there."""
    with open(make_snapshot(**kwargs), 'rb') as file:
        contents = pickle.load(file)
    contents['training_set_kwargs'] = dict(class_name='training.dataset.ImageFolderDataset', path='/moved/set.zip')
    path.write_bytes(pickle.dumps(contents))
    return f'--network={path}'

@pytest.mark.parametrize('metrics, c_dim, data, works', [
    ('is1k', 0, None, True), ('is1k', 0, 'set', True), ('fid1k', 0, None, False), ('is1k,fid1k', 0, None, False),
    ('kid1k', 0, None, False), ('is1k', 2, None, False), ('fid1k', 0, 'set', True)])
def test_a_set_that_has_moved(metrics, c_dim, data, works, runner, space, detector, make_snapshot, tmp_path):
    """Inception scores look at no real image, but labels of a conditional generator are drawn from the set."""
    args = [moved(make_snapshot, tmp_path / 'net.pkl', c_dim=c_dim), detector, f'--metrics={metrics}', '--verbose=0',
            *([f'--data={space}/{data}'] if data else [])]
    answer = runner.ask(dict(command='calc_metrics', args=args, folder=str(tmp_path)))
    assert answer['trace'] == '' and (answer['code'] == 0) == works, answer
    if not works:
        assert answer['stderr'].splitlines()[-1].startswith('Error: --data') and '/moved/set.zip' in answer['stderr']

@pytest.mark.parametrize('place', ['a folder', 'a full name', 'a link to nowhere', 'no run'])
def test_a_score_that_cannot_be_written_is_printed(place, runner, space, detector, make_snapshot, tmp_path):
    """The other metrics follow."""
    network = moved(make_snapshot, tmp_path / 'net.pkl')
    if place != 'no run':
        (tmp_path / 'training_options.json').write_text('{}')
    file = tmp_path / 'metric-is1k.jsonl'
    if place == 'a folder':
        file.mkdir()
    elif place == 'a full name':
        file.symlink_to('/dev/full')
    elif place == 'a link to nowhere':
        file.symlink_to(tmp_path / 'gone' / 'x')
    args = [network, detector, '--metrics=is1k,fid1k', f'--data={space}/set', '--verbose=0']
    answer = runner.ask(dict(command='calc_metrics', args=args, folder=str(tmp_path)))
    lines = [json.loads(line) for line in answer['stdout'].splitlines() if line.startswith('{')]
    assert answer['code'] == 0 and [line['metric'] for line in lines] == ['is1k', 'fid1k'], answer
    assert ('so this score is only printed' in answer['stderr']) == (place != 'no run')
    assert (tmp_path / 'metric-fid1k.jsonl').is_file() == (place != 'no run')

def png(value, size=(16, 16)):
    return bad_files.encoded(size, seed=value)

@pytest.mark.parametrize('files', [
    lambda: {'0.png': png(0)}, lambda: {'0.png': png(0), '1.png': png(0)},
    lambda: {'0.png': png(0), '0.bmp': bad_files.encoded(kind='bmp')},
    lambda: {f'{i}.png': png(0) for i in range(20)}, lambda: {'a/0.png': png(0), 'b/0.png': png(0), '._c.png': b'x'}])
def test_sources_without_a_difference(files, runner, space, tmp_path):
    bad_files.write_folder(tmp_path / 'source', files())
    args = [f'--outdir={tmp_path}/out', f'--data={space}/set', f'--spider-source={tmp_path}/source', *TRAIN, '--dry-run']
    answer = runner.ask(dict(command='train', args=args, folder=str(tmp_path)))
    assert answer['code'] == 2 and '; give a set of different images' in answer['stderr'], answer

def test_frames_and_pages_beyond_the_first_are_said(runner, tmp_path):
    frames = [PIL.Image.fromarray(np.full([16, 16, 3], value, np.uint8)) for value in (0, 99, 200)]
    (tmp_path / 'set').mkdir()
    for name in ('a.gif', 'b.png', 'c.webp', 'd.tif'):
        frames[0].save(tmp_path / 'set' / name, save_all=True, append_images=frames[1:])
    answer = runner.ask(dict(command='dataset_tool', args=['--source=set', '--dest=out.zip'], folder=str(tmp_path)))
    assert answer['code'] == 0 and '4 with several frames (the first one)' in answer['stderr'], answer
    assert os.path.isfile(tmp_path / 'out.zip')
