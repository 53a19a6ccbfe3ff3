"""From a folder of photos to a run: what `spider train --data=photos` chooses where the user does not."""
