"""The training history of an exported model, kept in its folder.

An export writes `flan_training.json`, which is bound to the exported weights. If the
weights were tuned elsewhere since, the history is unknown from there on.
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
  """Writes the history of the model in the folder."""
  source = Folder(folder)
  record = {
    'weights': weights.checksum(source.tensors, source.read),
    'lineage': lineage.as_json(),
  }
  text = json.dumps(record, indent=2) + '\n'
  (folder / FILE).write_text(text, encoding='utf-8')


def read(path: str | os.PathLike) -> Lineage:
  """The history of a Hugging Face folder or a GGUF file; unknown without a record.

  Raises:
    InputError: if the record is malformed, or the folder holds no model.
  """
  path = pathlib.Path(path)
  model = path.stem if path.is_file() else path.absolute().name
  if not path.is_dir() or not (path / FILE).is_file():
    return Lineage((lineage_lib.unknown(model),))
  file = inside(path, FILE)
  record = upgraded(read_json(file), renamed_keys.TRAINING)
  found = lineage_lib.of_json(record.get('lineage'), where=str(file))
  source = Folder(path)
  if record.get('weights') != weights.checksum(source.tensors, source.read):
    changed = f'its weights differ from those recorded in {FILE}'
    return found.then(lineage_lib.unknown(model, changed))
  return found
