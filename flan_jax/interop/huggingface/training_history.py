"""History: what a model was trained on, in a folder of theirs.

`flan_training.json` goes with a model that leaves. It is of the very weights it left
with: those that were tuned elsewhere since come back with a history that is unknown
from there on.
"""

import json
import os
import pathlib

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import weights
from flan_jax.interop.huggingface.source import Folder, inside, read_json
from flan_jax.runtime import renamed_keys
from flan_jax.runtime.renamed_keys import upgraded

FILE = 'flan_training.json'


def write(folder: pathlib.Path, lineage: Lineage) -> None:
  """Writes the history of the model that lies in the folder."""
  source = Folder(folder)
  said = {
    'weights': weights.checksum(source.tensors, source.read),
    'lineage': lineage.as_json(),
  }
  text = json.dumps(said, indent=2) + '\n'
  (folder / FILE).write_text(text, encoding='utf-8')


def read(path: str | os.PathLike) -> Lineage:
  """The history of a Hugging Face folder or a GGUF file; unknown where none is kept.

  Raises:
    InputError: if its file is not as `write` wrote it, or the folder holds no model.
  """
  path = pathlib.Path(path)
  model = path.stem if path.is_file() else path.absolute().name
  if not path.is_dir() or not (path / FILE).is_file():
    return Lineage((lineage_lib.unknown(model),))
  file = inside(path, FILE)
  said = upgraded(read_json(file), renamed_keys.TRAINING)
  found = lineage_lib.of_json(said.get('lineage'), where=str(file))
  source = Folder(path)
  if said.get('weights') != weights.checksum(source.tensors, source.read):
    changed = f'its weights are not those that {FILE} is of'
    return found.then(lineage_lib.unknown(model, changed))
  return found
