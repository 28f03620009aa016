"""Natural language inference.

"No" means two things in this cluster, and the questions fit its meaning. Among three
labels "no" means that the hypothesis is false, so templates ask whether the hypothesis
is *true*; among two labels it means that the text does not settle the hypothesis, so
templates ask whether the text *establishes* it.
"""

from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import (
  Field,
  capitalized,
  full_stop,
  question_mark,
  replace,
  substitute,
)
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_ANLI_TEMPLATES = (
  Template(
    '{context}\n\nSomebody who has just read this remarks:\n{hypothesis}\nAre they right?\n\n{OPTIONS}'
  ),
  Template(
    'Claim: {hypothesis}\n\nText: {context}\n\nTaking the text at its word, is the claim correct?\n{OPTIONS}'
  ),
  Template(
    'You check facts for a newspaper, and this is your only source:\n\n{context}\n\nA reporter would like to print the following line.\n{hypothesis}\nGoing by your source, is it accurate?\n\n{OPTIONS}'
  ),
  Template(
    'Here is something you might hear: {hypothesis}\nAnd here is all you know of the matter: {context}\n\nIs what you hear true?\n\n{OPTIONS}'
  ),
  Template(
    'Weigh the statement against the passage underneath it and say whether it is true.\n\nStatement: {hypothesis}\nPassage: {context}\n{OPTIONS}'
  ),
  Template(
    'Suppose every word of the paragraph is right. Is the remark right as well?\n\nParagraph: {context}\nRemark: {hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'A quiz is played from a single card, which reads as follows.\n\n{context}\n\nA contestant answers: {hypothesis}\nWith nothing but the card to go by, is that a true answer?\n\n{OPTIONS}'
  ),
  Template(
    'Imagine that your whole knowledge of the world came from this page:\n\n{context}\n\nDoes the next sentence describe that world truthfully?\n{hypothesis}\n\n{OPTIONS}'
  ),
  Template('{context}\n\nIs this, then, how matters stand?\n{hypothesis}\n\n{OPTIONS}'),
  Template(
    'Write one sentence about the passage below. A reader who is asked whether your sentence is true should have to reply "{answer}".\n\n{context}',
    '{hypothesis}',
    inverted=True,
  ),
  Template(
    '{context}\n\nSet a trap for careless readers: invent a statement about this text to which the proper reply, if somebody asks "Is that so?", would be "{answer}".',
    '{hypothesis}',
    inverted=True,
  ),
)

_STATEMENT = (
  prose,
  substitute(r'[\s,;:/]+$', ''),
  capitalized,
  full_stop,
  substitute(r'(?<=\w)(["\'’”]+)$', r'\1.'),
)
"""Ends a sentence with a full stop: not with a comma, and also after a quotation."""

_PREMISE_AND_HYPOTHESIS = {
  'premise': Field('premise', prose, capitalized),
  'hypothesis': Field('hypothesis', *_STATEMENT),
}

_ANLI = {
  'cluster': 'nli',
  'dev': 'validation[:200]',
  'test': 'test',
  'fields': {
    'context': Field('context', prose, capitalized),
    'hypothesis': Field('hypothesis', replace('\n', ' '), *_STATEMENT),
  },
  'cleaning': prose,
  'answer': Label('label', ('Yes', "It's impossible to say", 'No')),
  'metric': 'accuracy',
  'templates': _ANLI_TEMPLATES,
  'license': 'CC BY-NC 4.0',
  'citation': 'Nie et al. 2020, "Adversarial NLI", ACL; arXiv:1910.14599',
}

_CB_TEMPLATES = (
  Template(
    '{premise}\n\nAs the person talking here sees it, is it true that {hypothesis}?\n\n{OPTIONS}'
  ),
  Template(
    'Here is a snatch of text:\n{premise}\n\nIs it a fact, as far as anyone can see from this, that {hypothesis}?\n{OPTIONS}'
  ),
  Template(
    'You are reading aloud and come to these lines:\n\n{premise}\n\nYour listener breaks in:\nSo {hypothesis}?\nHow do you reply?\n\n{OPTIONS}'
  ),
  Template(
    '{premise}\n\nSomebody who has nothing else to go by is asked whether {hypothesis}. What is the proper reply?\n\n{OPTIONS}'
  ),
  Template(
    'Take what is said below at face value. Is it then true that {hypothesis}?\n\n{premise}\n\n{OPTIONS}'
  ),
  Template(
    'Extract: {premise}\nPoint at issue: {claim}\n\nSettle the point from the extract. Answer yes if it holds and no if it does not hold; where nobody could know, admit as much.\n\n{OPTIONS}'
  ),
  Template(
    'Picture the scene to which the lines below belong.\n\n{premise}\n\nIn that scene, is it really the case that {hypothesis}?\n\n{OPTIONS}'
  ),
  Template(
    'Think of what is taken for granted in the quotation, what is denied and what is left open. Is it correct, then, that {hypothesis}?\n\nQuotation: {premise}\n{OPTIONS}'
  ),
  Template(
    'Rumor has it that {hypothesis}. This is the only evidence there is:\n\n{premise}\n\nIs the rumor true?\n\n{OPTIONS}'
  ),
  Template(
    'Relying on the passage alone, would you put a tick (yes), a cross (no) or a question mark (impossible to say) beside the claim that {hypothesis}?\n\nPassage: {premise}\n\n{OPTIONS}'
  ),
  Template(
    'Put forward a short claim about the words below, such that "Is the claim true?" has to be answered with "{answer}".\n\n{premise}',
    '{claim}',
    inverted=True,
  ),
)

_MNLI_TEMPLATES = (
  Template(
    'Two people took notes at the same meeting.\nNotes A: {premise}\nNotes B: {hypothesis}\n\nNotes A are known to be reliable. Are notes B true?\n\n{OPTIONS}'
  ),
  Template(
    'Grant me this much: {premise}\nWould it then be true to say this? {hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'What you know: {premise}\nWhat you are asked about: {hypothesis}\n\nIs it true?\n{OPTIONS}'
  ),
  Template(
    'A witness has testified: {premise}\nCounsel now puts this to the witness: {hypothesis}\n\nThe witness is honest and has nothing to add to the testimony. What is the reply?\n\n{OPTIONS}'
  ),
  Template(
    'I overheard this: {premise}\nI came away believing this: {hypothesis}\nAm I right?\n\n{OPTIONS}'
  ),
  Template(
    '{hypothesis}\n\nTell me whether that is so. All I can give you to go on is one line:\n\n{premise}\n\n{OPTIONS}'
  ),
  Template(
    '(1) {premise}\n(2) {hypothesis}\n\nHold (1) to be a fact. Does (2) state something true?\n\n{OPTIONS}'
  ),
  Template(
    'From a letter: {premise}\nFrom a biography whose author had the letter on the desk: {hypothesis}\n\nIf we trust the letter, has the biographer told the truth here?\n\n{OPTIONS}'
  ),
  Template(
    'Say yes if the evidence shows the matter to be so, no if it shows the opposite, and otherwise that it is not possible to tell.\n\nEvidence: {premise}\nMatter: {hypothesis}\n{OPTIONS}'
  ),
  Template(
    'Known: {premise}\n\nAdd a sentence of your own. Someone who knows only the above and is asked whether your sentence is true should answer "{answer}".',
    '{hypothesis}',
    inverted=True,
  ),
  Template(
    'Somebody asks if this is true: {hypothesis}\nYou remember the one thing you were told, and you answer "{answer}". What were you told?',
    '{premise}',
    inverted=True,
  ),
)

_MNLI = {
  'cluster': 'nli',
  'source': Tfds('glue/mnli:2.0.0'),
  'train': 'train[:30000]',
  'dev': 'train[-200:]',
  'fields': _PREMISE_AND_HYPOTHESIS,
  'cleaning': prose,
  'answer': Label('label', ('yes', 'it is not possible to tell', 'no')),
  'metric': 'accuracy',
  'templates': _MNLI_TEMPLATES,
  'license': 'OANC, CC BY-SA 3.0 and CC BY 3.0, by genre',
  'citation': 'Williams et al. 2018, "A Broad-Coverage Challenge Corpus for Sentence Understanding through Inference", NAACL',
  'note': 'matched and mismatched share their training examples',
}

_QNLI_TEMPLATES = (
  Template(
    'A librarian is asked: {question}\nShe points to this line in a book: {sentence}\nIs the answer in that line?\n\n{OPTIONS}'
  ),
  Template(
    '{sentence}\n\nHaving seen no more than that, would you be able to reply to a person who asks you this?\n{question}\n\n{OPTIONS}'
  ),
  Template(
    'Wanted: {question}\nFound: {sentence}\n\nDoes the find contain what is wanted?\n{OPTIONS}'
  ),
  Template(
    'You are building a search engine. For the query\n{question}\nit returned\n{sentence}\nIs this a hit, that is, does it tell the searcher what they set out to learn?\n\n{OPTIONS}'
  ),
  Template(
    'With a marker pen, color the words in the sentence that reply to the question. Are there any such words?\n\nSentence: {sentence}\nQuestion: {question}\n\n{OPTIONS}'
  ),
  Template(
    'Somebody wonders: {question}\nWill the next sentence put an end to their wondering?\n{sentence}\n\n{OPTIONS}'
  ),
  Template(
    'Interviewer: {question}\nGuest: {sentence}\n\nDid the guest give the interviewer the information asked for?\n\n{OPTIONS}'
  ),
  Template(
    'Sort extracts into useful and useless ones. An extract is useful when the question can be answered from it. Is the one below useful?\n\nQuestion: {question}\nExtract: {sentence}\n\n{OPTIONS}'
  ),
  Template(
    '{question}\n\nA class was set that as homework and given this hint, word for word: {sentence}\nDoes the hint give the solution away?\n\n{OPTIONS}'
  ),
  Template(
    'Say whether the statement resolves the query that comes after it.\n\nStatement: {sentence}\nQuery: {question}\n{OPTIONS}'
  ),
  Template(
    'Devise a question on the subject of this sentence. Is the sentence itself to answer it? The choice has been made for you: {answer}.\n\n{sentence}',
    '{question}',
    inverted=True,
  ),
  Template(
    '{question}\n\nWrite a sentence, as from an encyclopedia, on what this is about. A reader who looks for the answer in your sentence and is asked whether it is there should say {answer}.',
    '{sentence}',
    inverted=True,
  ),
)

_RTE_TEMPLATES = (
  Template(
    '{premise}\n\nIs that enough to establish the point below?\n{hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'News item: {premise}\n\nHeadline: {hypothesis}\n\nIs the headline backed up by the item?\n{OPTIONS}'
  ),
  Template(
    'A pupil was given the text below and wrote in the exam: {hypothesis}\nShould the examiner, who marks strictly by the text, accept this?\n\nText: {premise}\n\n{OPTIONS}'
  ),
  Template(
    '{hypothesis}\n\nDo the lines below tell us as much, in those words or in others?\n\n{premise}\n\n{OPTIONS}'
  ),
  Template(
    'Report: {premise}\nEntry: {hypothesis}\n\nMay an encyclopedia give the report as its source for the entry?\n{OPTIONS}'
  ),
  Template(
    'Sometimes whoever believes a passage has to accept a certain other sentence as well. Is that so here?\n\nPassage: {premise}\n\nOther sentence: {hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'Answer yes if the article leaves no reasonable doubt about the assertion, and no in every other case.\n\nAssertion: {hypothesis}\n\nArticle: {premise}\n\n{OPTIONS}'
  ),
  Template(
    'Having been told the first of these things, would a sensible person be sure of the second?\n\n{premise}\n\n{hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'To be proved: {hypothesis}\nMaterial to hand: {premise}\n\nDoes the material do the job?\n{OPTIONS}'
  ),
  Template(
    'I am looking for a source that says this: {hypothesis}\n\nWill the one I have found do?\n\n{premise}\n\n{OPTIONS}'
  ),
  Template(
    'Make a short assertion on the subject of this text. Asked whether the text proves it, one must be able to say "{answer}".\n\n{premise}',
    '{hypothesis}',
    inverted=True,
  ),
)

_SNLI_TEMPLATES = (
  Template(
    'A photograph has this caption: {premise}\nIs the following true of what the photograph shows? {hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'You describe a picture over the telephone: {premise}\nThe listener imagines this: {hypothesis}\nDoes what the listener imagines match the picture?\n\n{OPTIONS}'
  ),
  Template(
    'First witness: {premise}\nSecond witness: {hypothesis}\n\nThe account of the first has been confirmed. Is the second telling the truth?\n\n{OPTIONS}'
  ),
  Template(
    'Scene: {premise}\nGuess: {hypothesis}\n\nHas the guess hit the mark?\n{OPTIONS}'
  ),
  Template(
    '{hypothesis}\n\nIs this what is happening? We have a single observer to rely on, who reports:\n\n{premise}\n\n{OPTIONS}'
  ),
  Template(
    'Two lines are printed under a drawing, and the upper one is certainly right. What about the lower one, is it right too?\n\nUpper line: {premise}\nLower line: {hypothesis}\n\n{OPTIONS}'
  ),
  Template(
    'Stage direction: {premise}\nAn actor asks the director whether this is so: {hypothesis}\n\nWhat should the director say, keeping strictly to the stage direction?\n\n{OPTIONS}'
  ),
  Template(
    'In our book for blind readers every image is put into words. For one of them the words are these:\n{premise}\n\nA reader would like to know if this is true of the image as well: {hypothesis}\nAnswer the reader.\n\n{OPTIONS}'
  ),
  Template(
    "What a camera recorded: {premise}\nWhat a neighbor claims was going on just then: {hypothesis}\n\nJudged by the recording, is the neighbor's claim true?\n{OPTIONS}"
  ),
  Template(
    '{premise}\n\nThat describes a photo. Say something more about the same photo. People who know the description but have not seen the photo, asked if what you say is true, should reply: {answer}',
    '{hypothesis}',
    inverted=True,
  ),
  Template(
    'Describe a moment of everyday life in one sentence. Anyone who hears your sentence and is then asked if the line below is true must answer "{answer}".\n\n{hypothesis}',
    '{premise}',
    inverted=True,
  ),
)

_WNLI_TEMPLATES = (
  Template(
    '{sentence1}\n\nSomeone sums this up in other words: {sentence2}\nHave they understood it properly?\n\n{OPTIONS}'
  ),
  Template(
    'The first line leaves it to the reader to see who or what a pronoun stands for. The second line spells it out. Is it spelled out correctly?\n\n{sentence1}\n{sentence2}\n\n{OPTIONS}'
  ),
  Template(
    'A student of English comes across this: {sentence1}\nThe student concludes: {sentence2}\nIs the conclusion sound?\n\n{OPTIONS}'
  ),
  Template('A. {sentence1}\nB. {sentence2}\n\nDoes A tell us what B says?\n{OPTIONS}'),
  Template(
    '{sentence1}\n\nIn saying that, did I also say this?\n\n{sentence2}\n\n{OPTIONS}'
  ),
  Template(
    'Original: {sentence1}\nPart of it, retold without its pronoun: {sentence2}\n\nIs the retelling faithful?\n\n{OPTIONS}'
  ),
  Template(
    'Work out who did what in the sentence, then judge if the remark about it is right.\n\nSentence: {sentence1}\nRemark: {sentence2}\n\n{OPTIONS}'
  ),
  Template(
    'Tom hears this: {sentence1}\nTom tells Ann: {sentence2}\n\nIf what Tom heard is true, is Ann well informed?\n\n{OPTIONS}'
  ),
  Template(
    '{sentence2}\n\nWould anybody with common sense come to believe that on being told the following?\n\n{sentence1}\n\n{OPTIONS}'
  ),
  Template(
    'Confirm this with a yes or reject it with a no: {sentence2}\nYour only information is the following. {sentence1}\n{OPTIONS}'
  ),
  Template(
    '{sentence1}\n\nOne of the pronouns here could puzzle a reader. Repeat the part in which it stands with a noun in its place, so that anyone asked "Is that the meaning?" has to answer "{answer}".',
    '{sentence2}',
    inverted=True,
  ),
)

DATASETS = (
  Dataset(
    name='anli_r1',
    paper_name='ANLI',
    source=Tfds('anli/r1:0.1.0'),
    train='train',
    sizes={'train': 16946, 'validation': 1000, 'test': 1000},
    **_ANLI,
  ),
  Dataset(
    name='anli_r2',
    paper_name='ANLI',
    source=Tfds('anli/r2:0.1.0'),
    train='train[:30000]',
    sizes={'train': 45460, 'validation': 1000, 'test': 1000},
    **_ANLI,
  ),
  Dataset(
    name='anli_r3',
    paper_name='ANLI',
    derived_from=('story_cloze', 'rte', 'wikiHow'),
    source=Tfds('anli/r3:0.1.0'),
    train='train[:30000]',
    sizes={'train': 100459, 'validation': 1200, 'test': 1200},
    **_ANLI,
  ),
  Dataset(
    name='cb',
    paper_name='CB',
    cluster='nli',
    source=Tfds('super_glue/cb:1.0.2'),
    train='train[:-50]',
    dev='train[-50:]',
    test='validation',
    sizes={'train': 250, 'validation': 56},
    fields={
      'premise': Field('premise', prose, capitalized),
      'hypothesis': 'hypothesis',
      'claim': Field('hypothesis', *_STATEMENT),
    },
    cleaning=prose,
    answer=Label('label', ('Yes', 'No', "It's impossible to say")),
    metric='accuracy',
    reference_metric='accuracy, and the mean F1 of the classes; the paper reports accuracy',
    templates=_CB_TEMPLATES,
    license='CC BY-SA (CommitmentBank); SuperGLUE: research use',
    citation='de Marneffe, Simons and Tonhauser 2019, "The CommitmentBank", Sinn und Bedeutung 23',
    note='hypotheses are clauses without a full stop, so templates put them after "that"; where one stands alone it is a sentence',
  ),
  Dataset(
    name='mnli_matched',
    paper_name='MNLI',
    test='validation_matched',
    sizes={'train': 392702, 'validation_matched': 9815},
    **_MNLI,
  ),
  Dataset(
    name='mnli_mismatched',
    paper_name='MNLI',
    test='validation_mismatched',
    sizes={'train': 392702, 'validation_mismatched': 9832},
    **_MNLI,
  ),
  Dataset(
    name='qnli',
    paper_name='QNLI',
    derived_from=('squad_v1',),
    cluster='nli',
    source=Tfds('glue/qnli:2.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 104743, 'validation': 5463},
    fields={
      'question': Field('question', prose, question_mark, capitalized),
      'sentence': Field('sentence', prose, capitalized),
    },
    cleaning=prose,
    answer=Label('label', ('yes', 'no')),
    metric='accuracy',
    templates=_QNLI_TEMPLATES,
    license='CC BY-SA 4.0',
    citation='Wang et al. 2019, "GLUE", ICLR; from SQuAD (Rajpurkar et al. 2016)',
    note='made from SQuAD, which is in the reading comprehension cluster',
  ),
  Dataset(
    name='rte',
    paper_name='RTE',
    cluster='nli',
    source=Tfds('super_glue/rte:1.0.2'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 2490, 'validation': 277},
    fields=_PREMISE_AND_HYPOTHESIS,
    cleaning=prose,
    answer=Label('label', ('yes', 'no')),
    metric='accuracy',
    templates=_RTE_TEMPLATES,
    license='research use (SuperGLUE)',
    citation='Dagan, Glickman and Magnini 2005, "The PASCAL Recognising Textual Entailment Challenge", and RTE-2, RTE-3, RTE-5',
    note='"no" means "does not follow": false, or not mentioned',
  ),
  Dataset(
    name='snli',
    paper_name='SNLI',
    derived_from=('Flickr30k captions',),
    cluster='nli',
    source=Tfds('snli:1.1.0'),
    train='train[:30000]',
    dev='validation[:200]',
    test='test',
    sizes={'train': 550152, 'validation': 10000, 'test': 10000},
    fields=_PREMISE_AND_HYPOTHESIS,
    cleaning=prose,
    answer=Label('label', ('yes', 'it is not possible to tell', 'no')),
    metric='accuracy',
    templates=_SNLI_TEMPLATES,
    license='CC BY-SA 4.0',
    citation='Bowman et al. 2015, "A large annotated corpus for learning natural language inference", EMNLP',
    note='premises are captions of photographs; examples on which annotators did not agree (label -1) are dropped',
  ),
  Dataset(
    name='wnli',
    paper_name='WNLI',
    derived_from=('Winograd schemas',),
    cluster='nli',
    source=Tfds('glue/wnli:2.0.0'),
    train='train[:-30]',
    dev='train[-30:]',
    test='validation',
    sizes={'train': 635, 'validation': 71},
    fields={
      'sentence1': 'sentence1',
      'sentence2': Field('sentence2', *_STATEMENT),
    },
    cleaning=prose,
    answer=Label('label', ('no', 'yes')),
    metric='accuracy',
    templates=_WNLI_TEMPLATES,
    license='CC BY 4.0',
    citation='Levesque, Davis and Morgenstern 2012, "The Winograd Schema Challenge", KR; recast by Wang et al. 2019 (GLUE)',
    note='made from Winograd schemas, which are in the coreference cluster',
  ),
)
