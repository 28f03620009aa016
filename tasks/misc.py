"""Miscellaneous: conversations, word senses, algebra, grammar, text repair."""

from flan_jax.catalog.answers import Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.excerpts import opening
from flan_jax.catalog.fields import (
  Field,
  after,
  altered,
  before,
  capitalized,
  drop,
  each,
  numbered,
  question_mark,
  replace,
  squeeze,
)
from flan_jax.catalog.prose import prose, verbatim
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_MARKS = r'[.,;:!?"\'()\[\]{}…“”„‘’«»]'
_PUNCTUATION = drop(rf'(?<!\d){_MARKS}|{_MARKS}(?!\d)|(?<=\s)[-–—](?=\s)')
"""Drops punctuation, but not within a number: the point of 1.5 is unpredictable."""

_UNANSWERABLE = replace('CANNOTANSWER', 'unanswerable')
_OPEN_END = drop(r'[\s,;]+$')
"""Drops the comma that a span of QuAC may end with."""

DATASETS = (
  Dataset(
    name='coqa',
    paper_name='CoQA',
    derived_from=('cnn_dailymail',),
    cluster='misc',
    source=Tfds('coqa:1.0.0'),
    train='train[:-100]',
    dev='train[-100:]',
    test='test',
    sizes={'train': 7_199, 'test': 500},
    fields={
      'story': Field('story', prose),
      'questions': Field(
        'questions', each(prose, question_mark, capitalized), numbered
      ),
      'answers': Field('answers/input_text', numbered),
    },
    cleaning=prose,
    answer=Text('{answers}'),
    evidence=Evidence(
      field='story', start='answers/answer_start', stop='answers/answer_end'
    ),
    metric='f1',
    reference_metric='the same, over the whole list of answers; the CoQA paper computes F1 for each question',
    license='mixed, by source of the passage',
    citation='Reddy, Chen and Manning 2019, "CoQA: A Conversational Question Answering Challenge", TACL',
    note='A whole conversation is one example: numbered questions, numbered answers. TFDS calls the official development set `test`.',
    templates=(
      Template(
        '{story}\n\nGo through the questions on what you have just read and answer each under its own number.\n\n{questions}'
      ),
      Template(
        'Two people talked about a passage. What the first one asked is recorded, what the second one replied is not. Fill in the replies, one to a line and numbered to match.\n\nPassage: {story}\n\nAsked:\n{questions}'
      ),
      Template(
        '{questions}\n\nEverything you need in order to respond is in the text that follows. Respond briefly, item by item.\n\n{story}'
      ),
      Template(
        'Here is an oral examination. Later questions lean on earlier ones ("Who was he?", "Why?"), so go through them in order and write a numbered list of short answers.\n\n{story}\n\n{questions}'
      ),
      Template('Reading:\n{story}\n\nQuiz:\n{questions}\n\nKey:'),
      Template(
        'A friend who has not seen a certain text wants to know:\n\n{questions}\n\nThe text runs as follows:\n\n{story}\n\nWhat do you tell your friend, point by point?'
      ),
      Template(
        'Draw up the answer sheet for this comprehension test. A few words per line will do.\n\n{story}\n\n{questions}'
      ),
      Template(
        'Deal with the list at the end, drawing on nothing except what is written here, and number your responses.\n\n{story}\n\n{questions}'
      ),
      Template(
        '{story}\n\nSomebody was asked about that and gave these answers:\n\n{answers}\n\nReconstruct the questions.',
        '{questions}',
        inverted=True,
      ),
      Template(
        'Think of a string of linked questions with which a curious partner could explore this passage, and number them.\n\n{story}',
        '{questions}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='quac',
    paper_name='QuAC',
    cluster='misc',
    source=Tfds('quac:1.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 83_568, 'validation': 7_354},
    fields={
      'title': 'title',
      'section': 'section_title',
      'background': Field('background', prose, opening(80)),
      'context': Field('context', drop(r'\s*CANNOTANSWER\s*$'), prose),
      'question': Field('question', prose, question_mark, capitalized),
      'reply': Field('orig_answer/text', _UNANSWERABLE, _OPEN_END),
    },
    cleaning=prose,
    answer=Text(
      '{reply}', references='answers/text', cleaning=(_UNANSWERABLE, _OPEN_END)
    ),
    evidence=Evidence(field='context', start='orig_answer/answer_start'),
    metric='f1',
    reference_metric="exact match and F1 in TriviaQA's form, against one annotator; the paper of QuAC has F1 in SQuAD's form against all of them, as here",
    license='CC BY-SA 4.0',
    citation='Choi et al. 2018, "QuAC: Question Answering in Context", EMNLP',
    note='A record holds one question of a dialogue and none of its earlier turns; the prompts say so, and name article and section. CANNOTANSWER reads "unanswerable", and does not stand at the end of the passage.',
    templates=(
      Template(
        'Article: {title}\nSection: {section}\n\n{context}\n\nTwo people are talking about this section, and one of them has just asked:\nQ: {question}\n(The reply is "unanswerable" if the section does not give it.)\nA:'
      ),
      Template(
        'Article: {title}\n{background}\n\nSo the article begins. Further down it has a section with a heading of its own.\n\nSection: {section}\n{context}\n\nIn the course of a conversation about that, a reader would like to know: {question}\nQuote the words that settle the matter, or write "unanswerable" if none do.'
      ),
      Template(
        'Article: {title}\nSection: {section}\n\nA student who cannot see the article questions a teacher who can. One of the things the student asks is this: {question}\nThe teacher looks at the text below and reads out the relevant words, or says "unanswerable" if there are none. What does the student hear?\n\n{context}'
      ),
      Template(
        '{context}\n\nThat is one section of an article. While it is being discussed, how would you respond to the following? Should it be silent on the point, put "unanswerable".\n\nArticle: {title}\nSection: {section}\nTo respond to: {question}'
      ),
      Template(
        'A reader asks one thing after another about a text, and only the latest is shown. Find the stretch of text that gives what is wanted. Where there is no such stretch, return "unanswerable".\n\nReader: {question}\nTopic: {title}\nSection: {section}\nText: {context}'
      ),
      Template(
        'You are looking something up in an encyclopedia.\n\nArticle: {title}\nSection: {section}\nWhat you know already: {background}\nWhat you have in front of you: {context}\nWhat you are after next: {question}\n\nReport your finding, and report "unanswerable" if you find nothing.'
      ),
      Template(
        '{question}\n\nThat is one turn of a dialogue on an article. Search the section reproduced here, and take the answer word for word; "unanswerable" is permitted too.\n\nArticle: {title}\nSection: {section}\n{context}'
      ),
      Template(
        'Copy out the portion that responds to the query, which is one in a series. Failing that, write "unanswerable".\n\nArticle: {title}\nSection: {section}\nText: {context}\n\nQuery: {question}'
      ),
      Template(
        'Article: {title}\nSection: {section}\n\n{context}\n\nIn a conversation about this, one turn received the following answer: {answer}\nWhat had been asked?',
        '{question}',
        inverted=True,
      ),
      Template(
        'Suggest a heading for this part of an encyclopedia entry.\n\nEntry: {title}\nPart: {context}',
        '{section}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='wic',
    paper_name='WiC',
    cluster='misc',
    source=Tfds('super_glue/wic:1.0.2'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 5_428, 'validation': 638},
    fields={'word': 'word', 'sentence1': 'sentence1', 'sentence2': 'sentence2'},
    cleaning=prose,
    answer=Label('label', ('different meanings', 'the same meaning')),
    metric='accuracy',
    license='CC BY-NC 4.0',
    citation='Pilehvar and Camacho-Collados 2019, "WiC: the Word-in-Context Dataset", NAACL; Wang et al. 2019, "SuperGLUE", NeurIPS',
    templates=(
      Template(
        'Here is "{word}" at work twice.\n\n{sentence1}\n{sentence2}\n\nWhat does it carry on these two occasions?\n{OPTIONS}'
      ),
      Template(
        'A lexicographer leaves a note unfinished: in the quotations given, "{word}" has ...\n\nQuotation 1: {sentence1}\nQuotation 2: {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Word: {word}\nUse A: {sentence1}\nUse B: {sentence2}\nFinding:\n{OPTIONS}'
      ),
      Template(
        '{sentence1}\n{sentence2}\n\nWould a dictionary need one definition or two in order to explain "{word}" in both lines? One amounts to "the same meaning", two to "different meanings".\n\n{OPTIONS}'
      ),
      Template(
        'Many English words are ambiguous. Taking the first example together with the second, what do we see in "{word}"?\n\nFirst example: {sentence1}\nSecond example: {sentence2}\n{OPTIONS}'
      ),
      Template(
        'A learner of the language is puzzled because the term "{word}" turns up in both of the following. Tell the learner whether to expect different meanings or the same meaning.\n\n{sentence1}\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Decide what the writers of (1) and (2) attach to the form "{word}".\n\n(1) {sentence1}\n(2) {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        '* {sentence1}\n* {sentence2}\n\nImagine that each speaker were asked to say "{word}" in plainer words. Their explanations would reveal\n{OPTIONS}'
      ),
      Template(
        'Sense comparison for "{word}"\nLeft: {sentence1}\nRight: {sentence2}\nResult:\n\n{OPTIONS}'
      ),
      Template(
        'Here is one half of a pair: {sentence1}\nAdd the other half, so that the pair shows {answer} of the word "{word}".',
        '{sentence2}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='math_dataset',
    paper_name='Math',
    cluster='misc',
    source=Tfds('math_dataset/algebra__linear_1d:1.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='test',
    sizes={'train': 1_999_998, 'test': 10_000},
    fields={
      'question': 'question',
      'equation': Field('question', after('Solve '), before(' for ')),
      'variable': Field('question', after(' for '), drop(r'\.\s*$')),
      'solution': 'answer',
    },
    cleaning=verbatim,
    answer=Text('{solution}'),
    metric='accuracy',
    license='Apache-2.0',
    citation='Saxton et al. 2019, "Analysing Mathematical Reasoning Abilities of Neural Models", ICLR',
    templates=(
      Template('{question} Nothing but the number is wanted.'),
      Template('What value must {variable} take for this to hold?\n\n{equation}'),
      Template('Equation: {equation}\nUnknown: {variable}\nRoot:'),
      Template(
        'Gather the terms in {variable} on one side and the constants on the other, then divide. What does {variable} come to?\n\n{equation}'
      ),
      Template(
        'A pupil is stuck on {equation} and asks you for {variable}. Tell the pupil what it is.'
      ),
      Template(
        'Find the integer that can replace {variable} without making the following false: {equation}'
      ),
      Template('Given that {equation}, {variable} equals'),
      Template(
        'Do some algebra in your head and write down just its outcome. {question}'
      ),
      Template(
        'Set a linear equation in {variable} whose solution is {answer}.',
        '{equation}',
        inverted=True,
      ),
      Template(
        'I am preparing an algebra worksheet. Word an exercise that starts with "Solve", calls the unknown {variable} and works out to {answer}.',
        '{question}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='cola',
    paper_name='CoLA',
    cluster='misc',
    source=Tfds('glue/cola:2.0.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 8_551, 'validation': 1_043},
    fields={'sentence': 'sentence'},
    cleaning=prose,
    answer=Label('label', ('unacceptable', 'acceptable')),
    metric='accuracy',
    reference_metric='accuracy; the papers of CoLA and GLUE report Matthews correlation',
    license='published examples; research use',
    citation='Warstadt, Singh and Bowman 2019, "Neural Network Acceptability Judgments", TACL; Wang et al. 2019, "GLUE", ICLR',
    note='The reference pins no version.',
    templates=(
      Template('{sentence}\n\nAs a piece of English, that is\n{OPTIONS}'),
      Template(
        'Native speakers were shown this example and asked for their gut reaction to its grammar. How did they mark it?\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'In books on syntax, an asterisk goes in front of a string that nobody would say. The string below has lost whatever mark it had. What should it be called?\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template('Example: {sentence}\nStatus:\n\n{OPTIONS}'),
      Template(
        'Never mind truth or style; attend to form. Is the construction of the following acceptable or unacceptable?\n\n{sentence}\n{OPTIONS}'
      ),
      Template(
        'A teacher of English goes through some homework a line at a time. Which remark should she write next to this line?\n\n{sentence}\n{OPTIONS}'
      ),
      Template(
        'Could a fluent speaker produce these words on purpose, in this order? If so, call them acceptable; if not, call them unacceptable.\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'To be judged: {sentence}\nYour ruling, having considered agreement, word order and anything missing or superfluous:\n{OPTIONS}'
      ),
      Template(
        'Make up an item for a grammar test. The right classification of the item should be "{answer}".',
        '{sentence}',
        inverted=True,
      ),
      Template(
        'Linguists contrast good examples with bad ones. Give one that is {answer}.',
        '{sentence}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='fix_punct',
    paper_name='Fix Punctuation',
    derived_from=('ParaCrawl',),
    cluster='misc',
    source=Tfds('para_crawl/enda:1.2.0'),
    train='train[30200:60200]',
    dev='train[60200:60400]',
    test='train[-3000:]',
    sizes={'train': 2_414_895},
    fields={
      'text': Field('en', squeeze),
      'bare': Field('en', squeeze, altered(_PUNCTUATION, squeeze)),
    },
    cleaning=verbatim,
    answer=Text('{text}'),
    metric='edit_distance',
    reference_metric='word edit distance of lower-cased text: not a percentage, and blind to capitals',
    license='CC0-1.0',
    citation='Bañón et al. 2020, "ParaCrawl: Web-Scale Acquisition of Parallel Corpora", ACL',
    note='The English side alone; a line without punctuation is dropped and counted.',
    templates=(
      Template(
        'Commas, full stops and the like have fallen out of this line, except from inside numbers. Put them back.\n\n{bare}'
      ),
      Template(
        '{bare}\n\nThe words above were sent in a hurry. Type them again as a copy-editor would print them, without rewording anything.'
      ),
      Template('Before: {bare}\nAfter, with punctuation:'),
      Template(
        'Where does a reader need to pause, stop or raise the voice? Show it by punctuating the following.\n\n{bare}'
      ),
      Template(
        'Speech recognition wrote this down without heeding pauses: {bare}\nTurn it into properly written text.'
      ),
      Template(
        'My keyboard lacks the keys for stops, brackets and quotation marks. Could you set this right for me? {bare}'
      ),
      Template(
        '{bare}\n\nWhich signs are missing between these words, or at the end? Return the corrected version.'
      ),
      Template(
        'Proofreading exercise: spelling and order are sound, but points, commas and apostrophes have been lost, save those inside numbers. What did the author originally write?\n\n{bare}'
      ),
      Template('Repeat this with due punctuation: {bare}'),
      Template(
        'Copy the text without its stops, commas, colons, brackets, quotation marks and apostrophes, and without dashes between words. Marks inside a number stay.\n\n{text}',
        '{bare}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='trec',
    paper_name='TREC',
    cluster='misc',
    source=Tfds('trec:1.0.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='test',
    sizes={'train': 5_452, 'test': 500},
    fields={'question': 'text'},
    cleaning=prose,
    answer=Label(
      'label-coarse',
      ('description', 'entity', 'abbreviation', 'human', 'numeric', 'location'),
    ),
    metric='accuracy',
    license='none stated; research use',
    citation='Li and Roth 2002, "Learning Question Classifiers", COLING; Hovy et al. 2001, "Toward Semantics-Based Answer Pinpointing", HLT',
    templates=(
      Template(
        'A quiz master files her cards by what they call for. In which drawer does this card belong?\n\n{question}\n\n{OPTIONS}'
      ),
      Template(
        '{question}\n\nWhat sort of thing will a correct reply consist of?\n{OPTIONS}'
      ),
      Template('Asked: {question}\nKind of answer sought:\n{OPTIONS}'),
      Template(
        'A search system decides what it is looking for before it looks. Somebody has just typed in the following. What should be looked for?\n\n{question}\n\n{OPTIONS}'
      ),
      Template(
        'Is the asker after an explanation, some thing, the short or long form of a term, a person, a figure or a place? Use the corresponding label.\n\n{question}\n\n{OPTIONS}'
      ),
      Template('Tag this for a trivia database: {question}\n{OPTIONS}'),
      Template(
        'A member of the audience stands up and has this for the lecturer: {question}\nUnder which heading would the response fall?\n\n{OPTIONS}'
      ),
      Template(
        'Do not answer the question. Just assign it to a category according to the answer it expects.\n\n{question}\n\n{OPTIONS}'
      ),
      Template(
        'Six assistants share the work of a reference library, each with one specialty. To whose specialty does this inquiry belong?\n\nInquiry: {question}\n{OPTIONS}'
      ),
      Template(
        'Think of a general-knowledge question whose answer would be classed as "{answer}".',
        '{question}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='true_case',
    derived_from=('ParaCrawl',),
    cluster='misc',
    source=Tfds('para_crawl/enda:1.2.0'),
    train='train[:30000]',
    dev='train[30000:30200]',
    test='train[-3000:]',
    sizes={'train': 2_414_895},
    fields={
      'text': Field('en', squeeze),
      'lowered': Field('en', squeeze, altered(str.lower)),
    },
    cleaning=verbatim,
    answer=Text('{text}'),
    metric='edit_distance',
    reference_metric='word edit distance of lower-cased text: not a percentage, and blind to capitals',
    license='CC0-1.0',
    citation='Bañón et al. 2020, "ParaCrawl: Web-Scale Acquisition of Parallel Corpora", ACL',
    note='In the reference only, not in the paper. The English side alone; a line without capitals is dropped and counted.',
    templates=(
      Template(
        'The shift key was broken when this was typed. Give it back its capital letters.\n\n{lowered}'
      ),
      Template(
        '{lowered}\n\nNames, initials and first words deserve capitals. Write the line again with a capital wherever English spelling asks for one.'
      ),
      Template('All small: {lowered}\nAs it should be printed:'),
      Template(
        'Which letters ought to be large here? Answer by retyping the words: {lowered}'
      ),
      Template(
        'A program has flattened everything below to lower case. Undo the damage.\n\n{lowered}'
      ),
      Template(
        'Make the following fit for publication. Nothing is wrong with it except its capitalization.\n\n{lowered}'
      ),
      Template(
        'Spot the proper nouns, acronyms and sentence openings, and restore the upper case that they have lost.\n\n{lowered}'
      ),
      Template('{lowered}\n\nHow did that look before someone took its capitals away?'),
      Template(
        'Return these same characters, mixing big and small ones as a native writer would: {lowered}'
      ),
      Template(
        'Set this text entirely in small letters: {text}',
        '{lowered}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='word_segment',
    derived_from=('ParaCrawl',),
    cluster='misc',
    source=Tfds('para_crawl/enda:1.2.0'),
    train='train[60400:90400]',
    dev='train[90400:90600]',
    test='train[-3000:]',
    sizes={'train': 2_414_895},
    fields={
      'text': Field('en', squeeze),
      'joined': Field('en', drop(r'\s+')),
    },
    cleaning=verbatim,
    answer=Text('{text}'),
    metric='edit_distance',
    reference_metric='word edit distance of lower-cased text: not a percentage, and blind to capitals',
    license='CC0-1.0',
    citation='Bañón et al. 2020, "ParaCrawl: Web-Scale Acquisition of Parallel Corpora", ACL',
    note='In the reference only, not in the paper. The English side alone.',
    templates=(
      Template(
        'Somebody struck out every space. Separate the words again.\n\n{joined}'
      ),
      Template(
        '{joined}\n\nRead that aloud, hear where one word stops and another begins, and write it down in the normal way.'
      ),
      Template('Run together: {joined}\nSpaced out:'),
      Template(
        'Hashtags and web addresses squeeze a whole phrase into a single piece. Unpack the piece below into ordinary text.\n\n{joined}'
      ),
      Template('Where do the gaps go? {joined}'),
      Template(
        'Insert blanks, and only blanks, until the following becomes readable.\n\n{joined}'
      ),
      Template(
        'Ancient scribes wrote without spacing. Suppose that one of them left us this English line, and transcribe it for a modern reader: {joined}'
      ),
      Template(
        '{joined}\n\nThese letters were copied from a scanned page, and all white space got lost on the way. Recover the original wording.'
      ),
      Template('Split this into its words: {joined}'),
      Template(
        'Write this as one unbroken string of characters.\n\n{text}',
        '{joined}',
        inverted=True,
      ),
    ),
  ),
)
