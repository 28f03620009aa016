"""Coreference: definite pronouns, WinoGrande and the Winograd schemas."""

import functools

from flan_jax.catalog.answers import Choice, Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.extracts import as_in, cut, marked, standing_for
from flan_jax.catalog.fields import Field, after, before, capitalized, full_stop
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_standing_for = functools.partial(
  standing_for, pronoun='pronoun_text', text='text', end='pronoun_end'
)

DATASETS = (
  Dataset(
    name='definite_pronoun_resolution',
    paper_name='DPR',
    cluster='coreference',
    source=Tfds('definite_pronoun_resolution:1.1.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='test',
    sizes={'train': 1_322, 'test': 564},
    fields={'sentence': 'sentence', 'pronoun': 'pronoun'},
    cleaning=prose,
    answer=Choice('label', 'candidates'),
    metric='accuracy',
    license='none stated',
    citation='Rahman and Ng 2012, "Resolving Complex Cases of Definite Pronouns: The Winograd Schema Challenge", EMNLP',
    templates=(
      Template(
        '{sentence}\n\nThe word "{pronoun}" in that sentence points back to something or someone already mentioned. Name it.\n{OPTIONS}'
      ),
      Template('Sentence: {sentence}\nPronoun: {pronoun}\nAntecedent:\n\n{OPTIONS}'),
      Template(
        'If you were to spell out "{pronoun}" in the following, which noun phrase would you put in its place?\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'Work out from the sense of what is said whom or what the writer intends by "{pronoun}": {sentence}\n{OPTIONS}'
      ),
      Template(
        'Two noun phrases compete to be the meaning of "{pronoun}" below. Which wins?\n\n{sentence}\n{OPTIONS}'
      ),
      Template(
        'Read this with care.\n\n{sentence}\n\nNow complete a note for the margin: by "{pronoun}", the author means\n\n{OPTIONS}'
      ),
      Template(
        'Grammar alone leaves "{pronoun}" ambiguous here; good sense does not. Resolve the ambiguity.\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'Who, or what, is being talked about when the speaker says "{pronoun}"?\n\nSpeaker: {sentence}\n\n{OPTIONS}'
      ),
      Template(
        'A translator has to choose between two renderings of "{pronoun}", because in her language it must agree with the noun that it replaces. Which noun phrase should she make it agree with?\n\nText to translate: {sentence}\n\n{OPTIONS}'
      ),
      Template(
        'Write a line or two in which a pronoun stands for the words given here, though another reading is conceivable.\n\nPronoun: {pronoun}\nStands for: {answer}',
        '{sentence}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='winogrande',
    paper_name='Winogrande',
    cluster='coreference',
    source=Tfds('winogrande:1.2.0'),
    train='train_xl[:30000]',
    dev='train_xl[-200:]',
    test='validation',
    sizes={'train_xl': 40_398, 'validation': 1_267},
    fields={
      'sentence': Field('sentence', capitalized),
      'start': Field('sentence', before('_'), capitalized),
      'rest': Field('sentence', after('_')),
      'option1': 'option1',
      'option2': 'option2',
    },
    cleaning=prose,
    answer=Choice('label', ('{option1} {rest}', '{option2} {rest}')),
    metric='accuracy',
    license='CC BY 4.0',
    citation='Sakaguchi et al. 2020, "WinoGrande: An Adversarial Winograd Schema Challenge at Scale", AAAI',
    note='The reference pins 1.1.0, which TFDS 4.9.10 no longer has; 1.2.0 holds the same splits.',
    templates=(
      Template(
        '{start} ...\n\nBoth ways of going on are grammatical, but only one is true to life. Choose it.\n{OPTIONS}'
      ),
      Template(
        'Sentence with a gap: {sentence}\n\nWrite out the part that starts at the gap, with the gap filled correctly.\n{OPTIONS}'
      ),
      Template(
        'Someone broke off here and left the remainder to you: {start}\nFinish so that it all makes sense.\n\n{OPTIONS}'
      ),
      Template('Bring this line to a reasonable close.\n\n{start}\n\n{OPTIONS}'),
      Template(
        'The underscore in the text below stands for a name or noun used earlier. Put back what was taken out, and give everything from there to the end.\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template('First half: {start}\nSecond half:\n\n{OPTIONS}'),
      Template(
        'Two conclusions differ only in the person or thing they mention. Which of the two follows from the opening words?\n\nOpening words: {start}\n{OPTIONS}'
      ),
      Template(
        'Ask yourself what would account for the situation described, then end the sentence accordingly.\n\n{start} ...\n\n{OPTIONS}'
      ),
      Template(
        'An author could not settle whom or what to name at one point, and left a blank there: {sentence}\nDecide it for her by what makes sense, and write out the text from the blank to its end.\n\n{OPTIONS}'
      ),
      Template(
        'A short text ends like this: {answer}\nCompose the part that comes before.',
        '{start}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='wsc273',
    paper_name='WSC273',
    in_reference=False,
    derived_from=('Winograd schemas',),
    cluster='coreference',
    source=Tfds('wsc273:1.0.0'),
    train='',
    dev='',
    test='test',
    sizes={'test': 273},
    fields={
      'text': Field('text', full_stop),
      'pronoun': 'pronoun_text',
      'start': Field('', cut('text', stop='pronoun_start')),
      'rest': Field('', cut('text', start='pronoun_end'), full_stop),
      'option1': Field('', _standing_for('option1_normalized')),
      'option2': Field('', _standing_for('option2_normalized')),
    },
    cleaning=prose,
    answer=Choice('label', ('{option1} {rest}', '{option2} {rest}')),
    metric='accuracy',
    license='CC BY 4.0',
    citation='Levesque, Davis and Morgenstern 2012, "The Winograd Schema Challenge", KR',
    note="Test split only: never trained on. One of the paper's 62; in no cluster of the reference.",
    templates=(
      Template(
        'Text: {text}\n\nGive its end again, from the word "{pronoun}" onwards, but say outright who or what that word stands for.\n{OPTIONS}'
      ),
      Template(
        '{start} ...\n\nName the right person or thing as you bring this to a close.\n\n{OPTIONS}'
      ),
      Template(
        'In the two continuations listed, a pronoun has been swapped for what it might stand for. Only one continuation preserves the original sense; repeat it.\n\nOriginal: {text}\n{OPTIONS}'
      ),
      Template(
        'Rewrite the closing words of the passage so that nobody could misread "{pronoun}".\n\nPassage: {text}\n\n{OPTIONS}'
      ),
      Template(
        'Here is how a statement opens: {start}\nAnd here are two ways for it to continue. Quote the one that could be right.\n{OPTIONS}'
      ),
      Template('Opening: {start}\nClosing:\n\n{OPTIONS}'),
      Template(
        'Everyday experience tells you what is meant by "{pronoun}" in this remark: {text}\nSpell the meaning out. Take the remark up where these words leave off, and go on without the pronoun.\n\n{start}\n\n{OPTIONS}'
      ),
      Template(
        'A listener breaks in at this point: {start} ...\nThe remainder has to be told without a pronoun to puzzle over. What should the speaker say next?\n\n{OPTIONS}'
      ),
      Template(
        '{text}\n\nAn edition for young readers has a plain noun or name instead of "{pronoun}". Up to there it is word for word the same: {start}\nGo on from there as that edition does.\n\n{OPTIONS}'
      ),
      Template(
        'Which completion is credible, given the way the world works?\n\n{start}\n{OPTIONS}'
      ),
    ),
  ),
  Dataset(
    name='wsc',
    derived_from=('Winograd schemas',),
    cluster='coreference',
    source=Tfds('super_glue/wsc:1.0.2'),
    train='train[:-50]',
    dev='train[-50:]',
    test='validation',
    sizes={'train': 554, 'validation': 104},
    fields={
      'text': Field('', marked('text', word='span2_index'), full_stop),
      'noun': Field('', as_in('text', field='span1_text')),
      'pronoun': 'span2_text',
    },
    cleaning=prose,
    answer=Label('label', ('no', 'yes')),
    metric='accuracy',
    license='CC BY 4.0; SuperGLUE: research use',
    citation='Levesque, Davis and Morgenstern 2012, "The Winograd Schema Challenge", KR; Wang et al. 2019, "SuperGLUE", NeurIPS',
    note='In the reference only: the paper lists WSC273 (here `wsc273`) in its place. The pronoun is marked because it may occur more than once.',
    templates=(
      Template(
        '{text}\n\nThe starred pronoun spares the writer some other expression. Is that expression "{noun}"?\n{OPTIONS}'
      ),
      Template(
        'Claim: *{pronoun}* refers to "{noun}".\nEvidence: {text}\nDoes the claim hold?\n\n{OPTIONS}'
      ),
      Template(
        'Try reading *{pronoun}* as "{noun}". Does the text then say what its writer meant?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'Does *{pronoun}* pick out "{noun}" in these lines?\n\n{text}\n{OPTIONS}'
      ),
      Template(
        'A pupil has drawn an arrow from the marked word back to "{noun}". Should the teacher accept the arrow?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'Text: {text}\nPronoun: {pronoun}\nProposed antecedent: {noun}\nCorrect?\n{OPTIONS}'
      ),
      Template(
        'I take the word between the asterisks to mean "{noun}". Have I understood properly?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'Would a careful reader connect the pronoun in asterisks with "{noun}", rather than with anything else that is mentioned?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'An index lists every mention of every person and thing in a book. In the entry for "{noun}", may it include the mention marked in this extract?\n\n{text}\n{OPTIONS}'
      ),
      Template(
        'Before the following can be translated, we must be sure about "{pronoun}", shown with an asterisk on either side: {text}\nIs "{noun}" what it stands for?\n\n{OPTIONS}'
      ),
    ),
  ),
)
