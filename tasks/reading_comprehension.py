"""Reading comprehension: the answer is in, or follows from, a given text.

If a prompt is too long, its text is cut by tokens around the words of the answer. If
the dataset does not mark those words (BoolQ, MultiRC), texts of more than 600 words are
cut after a sentence.
"""

from urllib.parse import unquote

from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.excerpts import opening
from flan_jax.catalog.fields import (
  Field,
  capitalized,
  date_in_words,
  first_or,
  full_stop,
  question_mark,
  replace,
  substitute,
)
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_NO_FACT = 'The laws of nature are the same at all times and in all places.'
"""Replaces the fact of OpenBookQA in copies that lack it: true, but not a hint."""

_QUESTION = Field('question', prose, question_mark, capitalized)

_BOOL_Q_TEMPLATES = (
  Template('{passage}\n\nA single word will do for a reply: {question}\n\n{OPTIONS}'),
  Template(
    'From the article "{title}":\n\n{passage}\n\nA visitor to the site types: {question}\nWhich way does the reply go?\n\n{OPTIONS}'
  ),
  Template(
    '{question}\n\nYour encyclopedia, open at "{title}", has this to say.\n\n{passage}\n\n{OPTIONS}'
  ),
  Template(
    'My daughter wants to know: {question} I have found a page that should settle it. What do I tell her?\n\n{passage}\n\n{OPTIONS}'
  ),
  Template('Title: {title}\nText: {passage}\nInquiry: {question}\nVerdict:\n{OPTIONS}'),
  Template(
    'Put your trust in this extract and in nothing else.\n\n{passage}\n\nSo: {question}\n{OPTIONS}'
  ),
  Template(
    'At a pub quiz the teams were asked: {question}\nThe organizers had taken the answer from these lines. What was on their sheet?\n\n{passage}\n\n{OPTIONS}'
  ),
  Template(
    '"{title}" is our subject. Below stands what is known about it, and after that a point to be cleared up.\n\nKnown: {passage}\n\nTo be cleared up: {question}\n\n{OPTIONS}'
  ),
  Template(
    'Spare a busy colleague the trouble: go through the page for them and report the outcome of their inquiry.\n\nInquiry: {question}\n\nPage: {passage}\n\n{OPTIONS}'
  ),
  Template(
    '{passage}\n\nThink of something a person might ask a search engine, to which the reply, according to this paragraph, is "{answer}".',
    '{question}',
    inverted=True,
  ),
  Template(
    'An entry called "{title}" is still to be written. Whoever reads it should come away certain that the inquiry below must be answered with "{answer}". Write the main paragraph of the entry.\n\nInquiry: {question}',
    '{passage}',
    inverted=True,
  ),
)

_DROP_TEMPLATES = (
  Template(
    'Report:\n{passage}\n\nFrom the figures and names in the report, work out the answer to this: {question}'
  ),
  Template(
    '{question}\n\nYou may have to count, add or subtract. Everything you need is here:\n\n{passage}'
  ),
  Template(
    'An editor is checking the piece below and asks: {question}\nSend back the number, date or name and no explanation.\n\n{passage}'
  ),
  Template('Data: {passage}\nProblem: {question}\nResult:'),
  Template(
    'The details required are scattered over a paragraph. Bring them together.\n\nParagraph: {passage}\n\nRequired: {question}'
  ),
  Template(
    '{passage}\n\nThis cannot be seen at a glance, so go back over the account before you reply. {question}'
  ),
  Template(
    'Match reports, census tables and chronicles are full of facts that can be compared. Here is such a text, and then something that a curious reader would like to know from it.\n\n{passage}\n\n{question}'
  ),
  Template(
    'How would you answer a person who handed you the page further down and said this?\n{question}\n\nThe page: {passage}'
  ),
  Template(
    'Keep pencil and paper ready.\n\n{question}\n\n{passage}\n\nWrite down what you arrive at, nothing else.'
  ),
  Template(
    '{passage}\n\nHere is a solution. What was the problem? Make it one that calls for some reckoning or comparing.\n\nSolution: {answer}',
    '{question}',
    inverted=True,
  ),
  Template(
    'Set an exercise in careful reading: a question on the passage at the end whose only acceptable answer is the one given here.\n\nAnswer: {answer}\n\nPassage: {passage}',
    '{question}',
    inverted=True,
  ),
)

_MULTIRC_TEMPLATES = (
  Template(
    '{paragraph}\n\nAsked: {question}\nWritten by a pupil: {response}\n\nIs the pupil right?\n{OPTIONS}'
  ),
  Template(
    'Several answers to one question may all be good. Judge the one below by itself.\n\nText: {paragraph}\nQuestion: {question}\nAnswer: {response}\n\nIs it a good answer?\n\n{OPTIONS}'
  ),
  Template(
    'You mark tests, and the key to this one is a short text.\n\n{paragraph}\n\nItem: {question}\nEntry: {response}\nDoes the entry earn a tick?\n\n{OPTIONS}'
  ),
  Template(
    '{question}\nWould this be a true reply? {response}\n\nMake up your mind from the story or article here.\n\n{paragraph}\n\n{OPTIONS}'
  ),
  Template(
    'Visitors to a website can add their own answers to what others ask about a page. On the page printed below, somebody asked:\n{question}\nA visitor has added:\n{response}\nMay the moderator let that stand as correct?\n\n{paragraph}\n\n{OPTIONS}'
  ),
  Template(
    'Proposed solution: {response}\nTo be solved: {question}\nSource: {paragraph}\n\nDoes the source confirm the proposal?\n{OPTIONS}'
  ),
  Template(
    '{paragraph}\n\nSomebody wanted to know: {question}\nI told them: {response}\nWas that correct?\n\n{OPTIONS}'
  ),
  Template(
    'Go through the passage sentence by sentence. Do one or more of them, taken together, bear out the reply given after the question?\n\nPassage: {paragraph}\n\nQuestion: {question}\nReply: {response}\n\n{OPTIONS}'
  ),
  Template(
    'Accept the response with a yes or turn it down with a no, according to the paragraph.\n\nPrompt: {question}\nResponse: {response}\nParagraph: {paragraph}\n\n{OPTIONS}'
  ),
  Template(
    '{paragraph}\n\n{question}\nOffer one possible reply. To anyone who asks whether it is right, the text should say "{answer}".',
    '{response}',
    inverted=True,
  ),
  Template(
    'Think up a question about the text. A person who responds to it as below and wonders whether that is right must be told "{answer}".\n\nResponse: {response}\n\nText: {paragraph}',
    '{question}',
    inverted=True,
  ),
)

_OPENBOOKQA_TEMPLATES = (
  Template(
    'From a science book: {fact}\n\nWith that in mind, pick what best finishes or answers the following.\n{question}\n\n{OPTIONS}'
  ),
  Template('{question}\n\nIt may help to know this: {fact}\n\n{OPTIONS}'),
  Template(
    "Fact for today's lesson: {fact}\nExercise: {question}\n\nChoose a line from the list.\n{OPTIONS}"
  ),
  Template(
    'Get from the hint to the solution.\n\nHint: {fact}\nRiddle: {question}\n\n{OPTIONS}'
  ),
  Template('Rule: {fact}\nCase: {question}\n\nApply the rule to the case.\n{OPTIONS}'),
  Template(
    'Open book: {fact}\nTest paper: {question}\n\nWhat would you circle?\n\n{OPTIONS}'
  ),
  Template(
    '{question}\n\nOf the four ways to go on or to reply, one is sensible in view of the principle printed here; take it. Principle: {fact}\n\n{OPTIONS}'
  ),
  Template(
    'Teacher: Do not forget what I told you: {fact}\nTeacher: Next on the sheet: {question}\nAttentive pupil:\n{OPTIONS}'
  ),
  Template(
    'What everybody knows, together with one piece of knowledge from school, is enough to settle what is asked.\n\nPiece of knowledge: {fact}\nAsked: {question}\n\n{OPTIONS}'
  ),
  Template(
    'A museum guide has just told a group of children: {fact}\nShe turns to a boy who was listening and tries him out: {question}\nThe boy gets it right. What does he answer?\n\n{OPTIONS}'
  ),
  Template(
    'Today the class learned this: {fact}\nSet a test item, perhaps a sentence to be finished, for which this is the right choice: {answer}',
    '{question}',
    inverted=True,
  ),
)

_SQUAD_V1_TEMPLATES = (
  Template('{context}\n\n{question} Quote the words above that tell us.'),
  Template(
    'Article: {title}\n\n{context}\n\nFind the few words in the article that answer this: {question}'
  ),
  Template(
    '{question}\nThe information is somewhere in these lines about "{title}". Copy it out.\n\n{context}'
  ),
  Template(
    'As brief a reply as will do, please, and only from what is printed here. {question}\n\n{context}'
  ),
  Template(
    'A guide preparing a tour has this sheet in front of her:\n\n{context}\n\nOne of the party inquires: {question}\nWhat does she say, in the words of the sheet?'
  ),
  Template('Subject: {title}\nExtract: {context}\nLook up: {question}\nFound:'),
  Template(
    'You may underline a single phrase in the paragraph, so that it meets the query. Which phrase?\n\nQuery: {question}\n\nParagraph: {context}'
  ),
  Template(
    'In this exercise, whatever is asked can be answered with an expression taken straight out of the text.\n\nText: {context}\n\nAsked: {question}'
  ),
  Template(
    'A reader writes to the editor of our encyclopedia: {question}\nReply to the letter with a quotation from the entry concerned.\n\nEntry: {context}'
  ),
  Template(
    'Somebody was curious about "{title}" and found what they were after in the paragraph below. What had they asked?\n\nFound: {answer}\n\nParagraph: {context}',
    '{question}',
    inverted=True,
  ),
  Template(
    '{context}\n\nIn which article of an encyclopedia would you expect to come across that?',
    '{title}',
    inverted=True,
  ),
)

_SQUAD_V2_TEMPLATES = (
  Template(
    '{context}\n\n{question}\nIf the text will not tell you, write "unanswerable".'
  ),
  Template(
    'Beware: the paragraph may not hold what is being sought, and then the word to give is "unanswerable".\n\nSought: {question}\nParagraph: {context}'
  ),
  Template(
    'The rule at our help desk is to answer in the exact words of the page and, where the page does not help, to say "unanswerable".\n\nPage: {title}\n{context}\n\nCaller: {question}\nDesk:'
  ),
  Template(
    'A trick question is one that the passage beside it does not settle; mark it "unanswerable". For an honest question, copy the solution from the passage.\n\nPassage: {context}\nQuestion: {question}'
  ),
  Template(
    '{question}\nConsult the notes on "{title}" and take the relevant words from them, or put "unanswerable" should they be silent on the point.\n\n{context}'
  ),
  Template(
    'I looked here first:\n\n{context}\n\nWhat did I want? Ah yes. {question} Just tell me it is unanswerable if I looked in the wrong place.'
  ),
  Template(
    "Return the shortest stretch of the document that satisfies the request, or the string 'unanswerable' if no stretch does.\n\nRequest: {question}\nDocument: {context}"
  ),
  Template(
    'Of all that people ask about "{title}", the extract below clears up a part and leaves the rest unanswerable. What of this one? Reply with that word or with the solution.\n{question}\n\n{context}'
  ),
  Template(
    '{context}\n\nTwo students are at odds. One says that the solution can be had from those lines; the other calls the question unanswerable. Settle it, either with the solution or with the word that the other used.\n\nTheir question: {question}'
  ),
  Template(
    '{context}\n\nAsk something about "{title}" to which this text gives the reply below. (If that is the word "unanswerable", stay close to the topic but ask what the text leaves open.)\n\nReply: {answer}',
    '{question}',
    inverted=True,
  ),
)

_SQUAD = {
  'cluster': 'reading_comprehension',
  'train': 'train[:30000]',
  'dev': 'train[-200:]',
  'test': 'validation',
  'metric': 'f1',
  'license': 'CC BY-SA 4.0',
}

DATASETS = (
  Dataset(
    name='bool_q',
    paper_name='BoolQ',
    cluster='reading_comprehension',
    source=Tfds('bool_q:1.0.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 9427, 'validation': 3270},
    fields={
      'title': 'title',
      'passage': Field('passage', prose, opening(600)),
      'question': _QUESTION,
    },
    cleaning=prose,
    answer=Label('answer', ('no', 'yes')),
    metric='accuracy',
    templates=_BOOL_Q_TEMPLATES,
    license='CC BY-SA 3.0',
    citation='Clark et al. 2019, "BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions", NAACL',
    note='questions are queries in lower case without a question mark',
  ),
  Dataset(
    name='drop',
    paper_name='DROP',
    cluster='reading_comprehension',
    source=Tfds('drop:2.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='dev',
    sizes={'train': 77409, 'dev': 9536},
    fields={
      'passage': Field('passage', prose),
      'question': _QUESTION,
      'answer': Field('answer', date_in_words),
    },
    cleaning=prose,
    answer=Text('{answer}', references='validated_answers', cleaning=(date_in_words,)),
    evidence=Evidence(field='passage'),
    metric='drop_f1',
    reference_metric="exact match and F1 in SQuAD's form (1.5 is 15), against one annotation",
    differs="F1 of DROP's own script; FLAN's code uses SQuAD's",
    templates=_DROP_TEMPLATES,
    license='CC BY-SA 4.0',
    citation='Dua et al. 2019, "DROP: Discrete Reasoning Over Paragraphs", NAACL',
    note='all annotations count as right, as in the DROP paper; dates are written out (7 November 1917); TFDS keeps only the first span of an answer of several, and nothing of a date without a day',
  ),
  Dataset(
    name='multirc',
    paper_name='MultiRC',
    cluster='reading_comprehension',
    source=Tfds('super_glue/multirc:1.0.2'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 27243, 'validation': 4848},
    fields={
      'paragraph': Field('paragraph', prose, opening(600)),
      'question': _QUESTION,
      'response': 'answer',
    },
    cleaning=prose,
    answer=Label('label', ('no', 'yes')),
    metric='f1a',
    reference_metric='the same, and the share of questions with all answers right',
    templates=_MULTIRC_TEMPLATES,
    license='MultiRC research license',
    citation='Khashabi et al. 2018, "Looking Beyond the Surface", NAACL',
    note='one example per candidate answer; a question may have several right ones',
  ),
  Dataset(
    name='openbookqa',
    paper_name='OBQA',
    cluster='reading_comprehension',
    source=Tfds('openbookqa:0.1.0'),
    train='train',
    dev='validation[:200]',
    test='test',
    sizes={'train': 4957, 'validation': 500, 'test': 500},
    fields={
      'fact': Field('fact1', substitute(r'^\s*$', _NO_FACT), capitalized, full_stop),
      'question': Field('question/stem', capitalized),
      'choice_a': 'question/choice_A',
      'choice_b': 'question/choice_B',
      'choice_c': 'question/choice_C',
      'choice_d': 'question/choice_D',
    },
    cleaning=prose,
    answer=Choice(
      'answerKey', ('{choice_a}', '{choice_b}', '{choice_c}', '{choice_d}')
    ),
    metric='accuracy',
    templates=_OPENBOOKQA_TEMPLATES,
    license='Apache-2.0',
    citation='Mihaylov et al. 2018, "Can a Suit of Armor Conduct Electricity?", EMNLP',
    note='the fact behind the question is in the prompt, as in FLAN: scores are not those of plain OpenBookQA',
  ),
  Dataset(
    name='squad_v1',
    paper_name='SQuAD',
    source=Tfds('squad/v1.1:3.0.0'),
    sizes={'train': 87599, 'validation': 10570},
    fields={
      'title': Field('title', unquote, replace('_', ' ')),
      'context': Field('context', prose),
      'question': _QUESTION,
      'answer': Field('answers/text', first_or('')),
    },
    cleaning=prose,
    answer=Text('{answer}', references='answers/text'),
    evidence=Evidence(field='context', start='answers/answer_start'),
    templates=_SQUAD_V1_TEMPLATES,
    citation='Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP',
    **_SQUAD,
  ),
  Dataset(
    name='squad_v2',
    paper_name='SQuAD',
    derived_from=('squad_v1',),
    source=Tfds('squad/v2.0:3.0.0'),
    sizes={'train': 130319, 'validation': 11873},
    fields={
      'title': Field('title', unquote, replace('_', ' ')),
      'context': Field('context', prose),
      'question': _QUESTION,
      'answer': Field('answers/text', first_or('unanswerable')),
    },
    cleaning=prose,
    answer=Text('{answer}', references='answers/text'),
    evidence=Evidence(field='context', start='answers/answer_start'),
    templates=_SQUAD_V2_TEMPLATES,
    citation='Rajpurkar, Jia and Liang 2018, "Know What You Don\'t Know", ACL',
    note='a question that the text does not answer expects the word "unanswerable"',
    **_SQUAD,
  ),
)
