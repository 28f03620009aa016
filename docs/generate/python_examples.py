"""Examples of the public names, by the folder that declares them.

`tests/python_page_test.py` runs them in this order; those of `jobs` train and load
models, and are run as the notebook of the tutorials has them.
"""

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
  'catalog': """
flan.register(
  flan.Cluster('support', too_near=('misc',)),
  flan.Family('acme'),
  flan.Dataset(
    name='tickets',
    cluster='support',
    source=flan.Json('data/tickets.{split}.jsonl'),
    fields={'body': flan.Field('text', str.strip)},
    answer=flan.Label('queue', ('billing', 'bug', 'other')),
    metric='accuracy',
    templates=(flan.Template('{body}\\n\\nWhich queue?\\n\\n{OPTIONS}'),),
  ),
  flan.Mixture(
    name='mine',
    datasets=('tickets', 'rte'),
    rates={'tickets': 500},
    style=flan.PromptStyle(templates=1),
  ),
)

# Conversations, which the model's chat template renders.
flan.chat('talks', flan.Json('data/talks.jsonl'), messages='messages')

# Answers: fixed words, the record's own options, or free text.
flan.Label('label', ('yes', 'no'))
flan.Choice('answer_index', 'choices')
flan.Text('{summary}')

# Other sources: TFDS, a seqio Task, a function.
flan.Tfds('super_glue/rte:1.0.2')
flan.SeqioTask('my_seqio_task')
flan.Generator(lambda split: [{'text': 'It rains.', 'queue': 0}])


@flan.prompt_style
def politely(dataset):
  return [
    dataclasses.replace(t, inputs=f'Please: {t.inputs}') for t in dataset.templates
  ]


@flan.options_style
def roman(options):
  labels = ('i', 'ii', 'iii', 'iv', 'v')[: len(options)]
  return '\\n'.join(f'{a}. {b}' for a, b in zip(labels, options)), labels
""",
  'data': """
flan.Json('data/tickets.{split}.jsonl')
flan.Csv('data/tickets.csv', delimiter=';')
flan.Parquet('gs://bucket/tickets-*.parquet')
flan.HuggingFace('user/name', 'config', revision='COMMIT')
""",
  'jobs': """
prompt = flan.render('rte', {'premise': 'It rains.', 'hypothesis': 'It is wet.',
                             'label': 0}, template=0)
prompt.inputs, prompt.targets

config = flan.load_config('gin/runs/demo.gin',
                          ['MODEL_DIR=runs/mine', 'TRAIN_STEPS=60'])
outcome = flan.train_and_evaluate(config)
outcome.report['results'][0]['mean']

model: flan.LanguageModel = flan.load_model('runs/mine')
(scores,) = model.loglikelihood([('Which word is a color?', ['red', 'bread'])])
(text,) = model.generate(['Which word is a color?'], max_tokens=8)

evaluation = flan.load_config('gin/evaluate/zero_shot.gin',
                              ['CHECKPOINT=runs/mine', 'OUTPUT_DIR=runs/mine/again'])
report = flan.evaluate_checkpoint(evaluation)

store = flan.open_store('runs/mine/store')
store.datasets
""",
  'evaluate': """
@flan.metric
def cents_off(reference, prediction) -> float:
  '''How far the amount is from the right one, in cents.'''
  return abs(100 * float(reference) - 100 * float(prediction or 0))


@flan.metric
class word_share(flan.Metric):
  '''Words of the answers over words of the references.'''

  def scores(self, predictions, references):  # float64 [examples, statistics]
    counts = [
      [len((p or '').split()), len(r[0].split())]
      for p, r in zip(predictions, references)
    ]
    return np.array(counts, np.float64)

  def combine(self, totals, count):  # [..., statistics] -> [...]
    return totals[..., 0] / totals[..., 1]
""",
  'config': """
@flan.configurable
def my_schedule(peak: float, steps: int):
  return optax.cosine_decay_schedule(peak, steps)
""",
  'train': """
@flan.configurable
class Norms(flan.Hook):
  '''Writes the norm of the parameters.'''

  def act(self, loop):
    loop.write({'norms/params': optax.global_norm(loop.state.params)})


@flan.metric_writer('print')
class Printer(flan.Writer):
  '''Prints the training loss.'''

  def write(self, step, values):
    if 'train/loss' in values:
      print(step, values['train/loss'])
""",
  'interop': """
from flan_jax.interop.huggingface import llama

flan.register_model_family(
  flan.ModelFamily(
    model_type='my_llama',
    architecture='MyLlamaForCausalLM',
    rules=llama.LLAMA.rules,
    tensors=llama.TENSORS,
    reference=llama.LLAMA.reference,
  )
)
""",
}

AFTER: Mapping[str, str] = {
  'catalog': 'What the fields mean, at more length: [Declarations](declarations.md).',
  'data': 'A pattern may hold `{split}`; paths may be local or `gs://`.',
  'jobs': 'The same, cell by cell: [the notebook](../tutorials/notebook.md).',
  'evaluate': 'A dataset names its metric: `metric="cents_off"` '
  '([Change the research](../howto/research.md#a-metric)).',
  'config': 'In gin: `optax.adamw.learning_rate = @my_schedule()` and '
  '`my_schedule.peak = 3e-4` ([Configure a run](../howto/configuration.md)).',
  'train': 'In gin: `Run.hooks = (@Norms(),)`, `Norms.every = 100`, and '
  "`WRITERS = ('jsonl', 'print')`.",
  'interop': 'The tables of a family are explained in '
  '[Add a model family](../howto/model_family.md).',
}
"""Folder -> what is said after its example."""
