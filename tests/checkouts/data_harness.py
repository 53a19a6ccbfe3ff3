"""What the dataset class of a host makes of folders of images, in a separate process.

    python data_harness.py HOST_DIR job.pt results.pt

The job is a dict: `folders`, paths. The result: for each of them {file name: uint8 tensor or the name of the error's class}, or
the name of the class of the error that opening it causes; and whether the class has what hosts/data.py asks it for."""

import sys

import harness
import torch

def images(path, dataset_class):
    try:
        dataset = dataset_class(path=path)
    except Exception as error:
        return type(error).__name__
    found = {}
    for i, name in enumerate(dataset._image_fnames):
        try:
            found[name] = torch.from_numpy(dataset[i][0].copy())
        except Exception as error:
            found[name] = type(error).__name__
    return found

def looks(job):
    from training.dataset import ImageFolderDataset
    asked = {name: hasattr(ImageFolderDataset, name) for name in ('_file_ext', 'check_images')}
    return dict(asked=asked, found=[images(path, ImageFolderDataset) for path in job['folders']])

if __name__ == '__main__':
    host_dir, job, result = sys.argv[1:]
    sys.path.insert(0, host_dir)
    harness.mend()
    torch.save(looks(torch.load(job)), result)
