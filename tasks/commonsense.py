"""Commonsense: COPA, HellaSwag, PIQA and StoryCloze."""

from flan_jax.catalog.answers import Choice
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import (
  Field,
  Record,
  capitalized,
  drop,
  recode,
  replace,
  sentence_case,
)
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_TAGS = drop(r'\[\w+\]')
"""WikiHow's structure in HellaSwag: [header], [title], [step], [substeps]."""

_APART = drop(r'^[\s,.;:]+')
"""Punctuation that joins an ending to its context; dropped if it stands alone."""


def _right_ending(record: Record) -> str:
  """The right ending of HellaSwag; '' without a label."""
  label = int(record['label'])
  return '' if label < 0 else str(record['endings'][label])


_right_ending.paths = ('label', 'endings')


DATASETS = (
  Dataset(
    name='copa',
    paper_name='CoPA',
    cluster='commonsense',
    source=Tfds('super_glue/copa:1.0.2'),
    train='train[:-50]',
    dev='train[-50:]',
    test='validation',
    sizes={'train': 400, 'validation': 100},
    fields={
      'premise': 'premise',
      'clause': Field('premise', prose, drop(r'\.$')),
      'relation': 'question',
      'connective': Field('question', recode({'cause': 'because', 'effect': 'so'})),
      'ask': Field(
        'question',
        recode({'cause': 'What made it happen?', 'effect': 'What came of it?'}),
      ),
      'choice1': 'choice1',
      'choice2': 'choice2',
    },
    cleaning=prose,
    answer=Choice('label', ('{choice1}', '{choice2}')),
    metric='accuracy',
    license='BSD-2-Clause',
    citation='Roemmele, Bejan and Gordon 2011, "Choice of Plausible Alternatives", AAAI Spring Symposium; Wang et al. 2019, "SuperGLUE", NeurIPS',
    templates=(
      Template(
        'Something has happened. {premise}\n{ask} Choose the more believable account.\n\n{OPTIONS}'
      ),
      Template(
        '{clause}, {connective} ...\n\nFinish the thought with the statement that makes better sense.\n{OPTIONS}'
      ),
      Template(
        'Two candidates for the {relation} of an event are listed, and only one of them holds up. State the one that does.\n\nEvent: {premise}\n\n{OPTIONS}'
      ),
      Template(
        'Using nothing but everyday knowledge, match this sentence with its {relation}.\n\n{premise}\n{OPTIONS}'
      ),
      Template(
        'A friend tells you something.\n\n{premise}\n\nYou start wondering about the {relation}. What is your best guess?\n\n{OPTIONS}'
      ),
      Template('Situation: {premise}\nWanted: its {relation}\n\n{OPTIONS}'),
      Template(
        '{premise}\n\nSuppose a detective had to explain to a jury how that fits into a chain of events. Which statement would she put forward as the {relation}?\n{OPTIONS}'
      ),
      Template(
        'Of the options below, one is tied to this sentence as its {relation}, while the other is there to mislead. Name the former.\n\n{premise}\n\n{OPTIONS}'
      ),
      Template(
        'I need a one-sentence situation for which the following would be a convincing {relation}: {answer}',
        '{premise}',
        inverted=True,
      ),
      Template(
        'Here is the {relation} in a pair of linked happenings.\n\n{answer}\n\nSupply the other half of the pair.',
        '{premise}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='hellaswag',
    paper_name='HellaSwag',
    derived_from=('wikiHow', 'ActivityNet captions'),
    cluster='commonsense',
    source=Tfds('hellaswag:1.1.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 39_905, 'validation': 10_042},
    fields={
      'context': Field(
        'context', replace('[title]', '\n'), _TAGS, prose, sentence_case
      ),
      'topic': 'activity_label',
      'close': Field('', _right_ending, _TAGS, _APART),
    },
    cleaning=prose,
    answer=Choice('label', 'endings', cleaning=(_TAGS,)),
    metric='accuracy',
    license='MIT',
    citation='Zellers et al. 2019, "HellaSwag: Can a Machine Really Finish Your Sentence?", ACL',
    templates=(
      Template(
        '{context}\n\nThe passage stops short. Pick the continuation that belongs to it.\n{OPTIONS}'
      ),
      Template(
        'Somebody was describing a scene, or giving directions, and was cut off partway. How does the description most sensibly go on?\n\nDescription: {context}\n\n{OPTIONS}'
      ),
      Template(
        'Subject: {topic}\n\n{context}\n\nThree of the endings offered were invented by a machine. Find the one written by a human being.\n{OPTIONS}'
      ),
      Template('Carry on from here: {context}\n{OPTIONS}'),
      Template(
        'Consider how things usually unfold in real life, then close the following text in whichever way suits it best.\n\n{context}\n\n{OPTIONS}'
      ),
      Template(
        'An editor has mislaid the end of an item. Its subject and what remains of it:\n\n{topic}\n\n{context}\n\nRestore it to its full length.\n\n{OPTIONS}'
      ),
      Template(
        '{context} ...\n\nWhat would you expect to read after the dots?\n{OPTIONS}'
      ),
      Template(
        'Four people were each asked to complete an unfinished text, and three of their attempts ring false. Quote the attempt that rings true.\n\nUnfinished text: {context}\n\n{OPTIONS}'
      ),
      Template(
        'Subject: {topic}\nClosing words of a passage: {close}\n\nWrite what leads up to them.',
        '{context}',
        inverted=True,
      ),
      Template(
        'Name the activity or subject that this passage deals with.\n\n{context} {answer}',
        '{topic}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='piqa',
    paper_name='PIQA',
    cluster='commonsense',
    source=Tfds('piqa:1.0.0'),
    train='train[:-100]',
    dev='train[-100:]',
    test='validation',
    sizes={'train': 16_113, 'validation': 1_838},
    fields={
      'goal': Field('goal', prose, drop(r'[\s,]+$'), capitalized),
      'sol1': Field('sol1', capitalized),
      'sol2': Field('sol2', capitalized),
    },
    cleaning=prose,
    answer=Choice('label', ('{sol1}', '{sol2}')),
    metric='accuracy',
    license='AFL-3.0',
    citation='Bisk et al. 2020, "PIQA: Reasoning about Physical Commonsense in Natural Language", AAAI',
    templates=(
      Template(
        'On the table: {goal}\n\nTwo methods are suggested, and one of them fails. Which one succeeds?\n{OPTIONS}'
      ),
      Template(
        'A reader has written in about the following: {goal}\nSend back the advice that would actually help.\n\n{OPTIONS}'
      ),
      Template(
        'You have ordinary household things at your disposal and a job to get done.\n\nWhat it is about: {goal}\n\nHow should you go about it?\n\n{OPTIONS}'
      ),
      Template(
        'Two tips on one subject have reached a magazine. Print the sound one and throw the silly one away.\n\nSubject: {goal}\n{OPTIONS}'
      ),
      Template('Problem: {goal}\nRemedy:\n\n{OPTIONS}'),
      Template(
        'Picture yourself carrying out each procedure below, step by step. Only one would give the result asked for here: {goal}\nRepeat that procedure.\n{OPTIONS}'
      ),
      Template(
        '{goal}\n\nGo by what you know of how objects, materials and tools behave, and settle on one of the instructions.\n\n{OPTIONS}'
      ),
      Template(
        'An apprentice comes to you with this: {goal}\nSteer the apprentice away from the mistake and toward the right answer.\n\n{OPTIONS}'
      ),
      Template(
        'What might a person be trying to do who follows these directions?\n\n{answer}',
        '{goal}',
        inverted=True,
      ),
      Template(
        'If this hint were printed on a card, what would the card say at the top?\n\n{answer}',
        '{goal}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='story_cloze',
    paper_name='StoryCloze',
    cluster='commonsense',
    source=Tfds('story_cloze/2016:1.0.0'),
    train='validation[:-200]',
    dev='validation[-200:]',
    test='test',
    sizes={'validation': 1_871, 'test': 1_871},
    fields={'context': 'context'},
    cleaning=prose,
    answer=Choice('label', 'endings', first=1),
    metric='accuracy',
    license='handed out on request by its authors; no open license',
    citation='Mostafazadeh et al. 2016, "A Corpus and Cloze Evaluation for Deeper Understanding of Commonsense Stories", NAACL',
    note='Manual download. TFDS has no train split: trains on validation, as the reference does.',
    templates=(
      Template(
        'The first four sentences of a five-sentence story are given. Decide on the fifth.\n\n{context}\n\n{OPTIONS}'
      ),
      Template(
        '{context}\n\nTwo endings are on the table. Take the one that these events have earned.\n{OPTIONS}'
      ),
      Template('Beginning: {context}\nEnding:\n\n{OPTIONS}'),
      Template(
        'A grandmother was telling a tale and dozed off just before its close. With which words should the grandchildren finish it for her?\n\n{context}\n\n{OPTIONS}'
      ),
      Template(
        'One closing line below agrees with what has been told; the other contradicts it or comes out of nowhere. Give the line that agrees.\n\nTold so far: {context}\n{OPTIONS}'
      ),
      Template('Supply a last line for this little narrative: {context}\n{OPTIONS}'),
      Template(
        'Bearing in mind everything the characters go through in the text that follows, how do matters most likely turn out?\n\n{context}\n\n{OPTIONS}'
      ),
      Template(
        'The bottom of a page has been torn away. Above the tear it says: {context}\n\nTwo scraps of paper lie on the floor. What is written on the scrap that fits?\n\n{OPTIONS}'
      ),
      Template(
        'Write four short sentences of narrative that could come before this conclusion: {answer}',
        '{context}',
        inverted=True,
      ),
      Template(
        'I only caught the end of the story.\n\n{answer}\n\nTell me what I missed.',
        '{context}',
        inverted=True,
      ),
    ),
  ),
)
