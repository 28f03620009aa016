"""Summarization: news, mail, chats, reviews, debates and how-to guides.

Documents are cut to whole sentences of about 600 words: with its template such a prompt
fits the 1024 input tokens, and an instruction at its end is not lost. Inverted
templates ask for the opening of a document: whole sentences, so that targets are
complete.
"""

from flan_jax.catalog.answers import Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.encodings import quoted_printable
from flan_jax.catalog.excerpts import evenly, opening, sentences
from flan_jax.catalog.fields import (
  Field,
  drop,
  each,
  first,
  numbered,
  pick,
  replace,
  split,
  substitute,
  without,
)
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

WORDS = 600
"""Maximum number of words of a document in a prompt."""

_MAIL = (quoted_printable, drop(r'\s*<mailto:[^>]*>'), drop(r'\bmailto:'), prose)
"""Removes traces of mail transport and mail programs from a body."""

_SUBJECT = drop(r'(?s)\s{10,}.*\Z|\s*\[(?=[a-z]*[b-df-hj-np-tv-xz]{4})[a-z]+\]\s*\Z')
"""Drops the number or mark by which a mass mailing evades a filter: ` [uclck]`."""

AESLC = Dataset(
  name='aeslc',
  paper_name='AESLC',
  cluster='summarization',
  source=Tfds('aeslc:1.0.0'),
  train='train',
  dev='validation[-200:]',
  test='test',
  sizes={'train': 14_436, 'validation': 1_960, 'test': 1_906},
  fields={
    'email': Field('email_body', *_MAIL, opening(WORDS)),
    'beginning': Field('email_body', *_MAIL, sentences(120)),
    'subject': Field('subject_line', quoted_printable, _SUBJECT),
  },
  cleaning=prose,
  answer=Text('{subject}'),
  metric='rouge',
  templates=(
    Template(
      '{email}\n\nThis message went out with its subject field empty. What belongs there?'
    ),
    Template('What would you type in the subject box before sending this?\n\n{email}'),
    Template(
      'Our archive files each e-mail under a short label that says what it is about. Label this one.\n\n{email}\n\nLabel:'
    ),
    Template(
      'Skim the note below and name its topic in a handful of words.\n\n{email}'
    ),
    Template(
      'An inbox shows a single line per e-mail. For the one that follows, how should that line read?\n\n{email}'
    ),
    Template(
      'Part of the header of this mail got lost. Put back the part a reader sees first.\n\nBody:\n{email}\n\nSubject:'
    ),
    Template(
      'State the business of the following message as tersely as an office clerk would.\n\n{email}'
    ),
    Template(
      '{email}\n\nSomeone forwarded me that under the heading "FYI", which is no help. Suggest a better one.'
    ),
    Template(
      'With which lines might an e-mail on this subject begin?\n\nSubject: {subject}',
      '{beginning}',
      inverted=True,
    ),
    Template(
      'Draft a message that somebody in an office could have sent.\n\nSubject: {subject}\nText:',
      '{beginning}',
      inverted=True,
    ),
  ),
  license='CC BY-NC-SA 4.0',
  citation='Zhang and Tetreault 2019, "This Email Could Save Your Life: Introducing the Task of Email Subject Line Generation", ACL',
)

# `LONDON, England (CNN) -- `, `Hong Kong (CNN)`, and the Daily Mail's
# `By. Name. PUBLISHED: ...`.
DATELINE = (
  r"^(?:[A-Z][A-Z .'-]+(?:, [A-Z][\w. ]+)? )?(?:\([\w. ]+\) )?-- |^(?:[A-Z][\w.,' -]{0,40} )?\(CNN\) ?(?:-- )?"
  r'|^By ?\. .{1,120}?PUBLISHED: ?\. .{1,60}?\d{4} ?\. '
  r'(?:\| ?\. UPDATED: ?\. .{1,60}?\d{4} ?\. )?'
)

LINK = r' E-mail to a friend ?\.'

CNN_DAILYMAIL = Dataset(
  name='cnn_dailymail',
  paper_name='CNN-DM',
  cluster='summarization',
  source=Tfds('cnn_dailymail:3.4.0'),
  train='train[:30000]',
  dev='validation[:200]',
  test='test',
  sizes={'train': 287_113, 'validation': 13_368, 'test': 11_490},
  fields={
    'article': Field('article', drop(DATELINE), drop(LINK), prose, opening(WORDS)),
    'beginning': Field('article', drop(DATELINE), drop(LINK), prose, sentences(80)),
    'points': 'highlights',
  },
  cleaning=prose,
  answer=Text('{points}'),
  metric='rouge',
  templates=(
    Template('{article}\n\nPick out the points a hurried reader must not miss.'),
    Template(
      'A news site prints a few bullet points beside each story. Provide them for this story.\n\n{article}'
    ),
    Template(
      'What happened? Reply in a handful of short statements, going by this report alone.\n\n{article}'
    ),
    Template(
      'Strip the report down to its essentials and give each essential a sentence.\n\nReport: {article}\n\nEssentials:'
    ),
    Template(
      'You present the evening bulletin and have twenty seconds for the item below. What do you read out?\n\n{article}'
    ),
    Template(
      'A friend saw me reading this and wants to know what it says.\n\n{article}\n\nHelp me put it briefly.'
    ),
    Template(
      'Brief the editor, in a few sentences, on the copy that follows.\n\n{article}\n\nBriefing:'
    ),
    Template(
      'If the piece below had to lose nine tenths of its length, which facts would you save? Write them out.\n\n{article}'
    ),
    Template(
      'Beside a news story stood these points:\n\n{points}\n\nWith which sentences did the story open?',
      '{beginning}',
      inverted=True,
    ),
    Template(
      "Here are a reporter's notes. Work them up into a strong first paragraph.\n\nNotes:\n{points}",
      '{beginning}',
      inverted=True,
    ),
  ),
  license='news text of CNN and the Daily Mail: research use',
  citation='Hermann et al. 2015, "Teaching Machines to Read and Comprehend", NeurIPS; See, Liu and Manning 2017, "Get To The Point", ACL',
  note=(
    'FLAN used 3.1.0, which TFDS no longer has; 3.4.0 has the same examples, without the '
    'blank before added full stops, and two more fields.'
  ),
)

GIGAWORD = Dataset(
  name='gigaword',
  paper_name='Gigaword',
  cluster='summarization',
  source=Tfds('gigaword:1.2.0'),
  train='train[:30000]',
  dev='validation[:200]',
  test='test',
  sizes={'train': 3_803_957, 'validation': 189_651, 'test': 1_951},
  fields={
    'sentence': Field('document', without('UNK', '<unk>', '#')),
    'headline': Field('summary', without('UNK', '<unk>', '#')),
  },
  cleaning=prose,
  answer=Text('{headline}'),
  metric='rouge',
  templates=(
    Template('{sentence}\n\nCut that down until it fits over a newspaper column.'),
    Template(
      'A wire story starts with the sentence below. What did the sub-editor put above it?\n\n{sentence}'
    ),
    Template('In headline style and in few words: {sentence}'),
    Template('Opening of the report: {sentence}\nWorking title:'),
    Template(
      'Imagine selling the paper that printed this. What would you shout in the street?\n\n{sentence}'
    ),
    Template(
      'Text on our news ticker has to be terse. Shorten the next item for it, in lower case.\n\nItem: {sentence}'
    ),
    Template(
      'How might an agency head a dispatch whose first line is this?\n\n{sentence}'
    ),
    Template(
      'Telegrams are charged by the word. Send the news below as cheaply as you can.\n\n{sentence}'
    ),
    Template(
      'Headline: {headline}\n\nWrite the sentence the report led with.',
      '{sentence}',
      inverted=True,
    ),
    Template(
      'Expand these few words into the first full sentence of a news agency story.\n\n{headline}',
      '{sentence}',
      inverted=True,
    ),
  ),
  license='Gigaword: LDC license',
  citation='Graff et al. 2003, "English Gigaword", LDC; Rush, Chopra and Weston 2015, "A Neural Attention Model for Abstractive Sentence Summarization", EMNLP',
  note=(
    'Text in lower case, joined up from Penn Treebank tokens. Examples with an unknown '
    'word or a masked number (UNK, #), about 46% of them, are dropped and counted.'
  ),
)

# Notice of the Internet Archive before an archived page.
ARCHIVE = r'Starting in 1996, Alexa Internet[^|]*?embargo period\.'

MULTI_NEWS = Dataset(
  name='multi_news',
  paper_name='Multi-News',
  cluster='summarization',
  source=Tfds('multi_news:2.1.0'),
  train='train[:30000]',
  dev='validation[:200]',
  test='test',
  sizes={'train': 44_972, 'validation': 5_622, 'test': 5_622},
  fields={
    'reports': Field(
      'document',
      drop(ARCHIVE),
      split('|||||'),
      first(10),
      each(prose),
      evenly(WORDS),
      numbered,
    ),
    'beginning': Field(
      'document', drop(ARCHIVE), split('|||||'), pick(0), prose, sentences(100)
    ),
    'digest': Field('summary', drop(r'^– '), prose, sentences(160)),
  },
  cleaning=prose,
  answer=Text('{digest}'),
  metric='rouge',
  templates=(
    Template(
      'Several outlets have covered one affair. Merge what they wrote into a single account.\n\n{reports}'
    ),
    Template(
      'Compare these sources side by side and produce the digest that a busy person would want.\n\n{reports}'
    ),
    Template(
      '{reports}\n\nDrawing on everything above, tell the whole story in a paragraph or two.'
    ),
    Template('What do the texts that follow report, taken together?\n\n{reports}'),
    Template(
      'You edit a news round-up. Turn this pile of clippings into one entry.\n\n{reports}\n\nEntry:'
    ),
    Template(
      'Where the pieces below agree, say it once; where one adds something, keep it. The result should be one short article.\n\n{reports}'
    ),
    Template(
      'From the web, all on the same subject:\n\n{reports}\n\nA synthesis without repetition:'
    ),
    Template(
      'Suppose I had read none of the coverage listed here. How would you explain to me what has been going on?\n\n{reports}'
    ),
    Template(
      'Combine, do not copy: we need a fresh write-up of the news in these documents.\n\n{reports}'
    ),
    Template(
      'The following digest was compiled from longer reports. How might one of them have opened?\n\n{digest}',
      '{beginning}',
      inverted=True,
    ),
  ),
  license='non-commercial research and education',
  citation='Fabbri et al. 2019, "Multi-News: a Large-Scale Multi-Document Summarization Dataset", ACL',
  note=(
    'FLAN used 1.0.0, which TFDS no longer has; 2.1.0 takes the same corpus from its '
    "authors' new address. Every source gets an equal share of the prompt; digests "
    'are cut to whole sentences of 160 words, which fit the 256 target tokens.'
  ),
)

NEWSROOM = Dataset(
  name='newsroom',
  paper_name='Newsroom',
  cluster='summarization',
  source=Tfds('newsroom:1.0.0'),
  train='train[:30000]',
  dev='validation[:200]',
  test='test',
  sizes={'train': 995_041, 'validation': 108_837, 'test': 108_862},
  fields={
    'title': 'title',
    'text': Field('text', prose, opening(WORDS)),
    'beginning': Field('text', prose, sentences(80)),
    'blurb': Field('summary', prose, sentences(170)),
  },
  cleaning=prose,
  answer=Text('{blurb}'),
  metric='rouge',
  templates=(
    Template(
      '{title}\n\n{text}\n\nWhat standfirst would you set between that title and the body?'
    ),
    Template(
      'A search engine shows a short description under every link. What should it show for the page below?\n\n{text}'
    ),
    Template(
      "Compose this item's teaser for the paper's home page.\n\nHeadline: {title}\nBody: {text}"
    ),
    Template('{text}\n\nSum that up for somebody deciding whether to click on it.'),
    Template(
      'Social media editors have little room to promote a piece. Promote this one.\n\n{text}'
    ),
    Template(
      'There is no time to read all of this, so give me its main point.\n\n{text}'
    ),
    Template('Précis wanted, no longer than it need be:\n\n{text}'),
    Template(
      'Our library files an article with its full text and, on an index card, an abstract. The card of this one has only its title. Complete it.\n\nTitle: {title}\nText: {text}\nAbstract:'
    ),
    Template(
      'The compositor has dropped the title of what follows. Restore it.\n\n{text}',
      '{title}',
      inverted=True,
    ),
    Template(
      'An article is announced like this:\n\n{title}\n{blurb}\n\nHow does the article begin?',
      '{beginning}',
      inverted=True,
    ),
  ),
  license=(
    'manual download: register at summari.es; put train.jsonl, dev.jsonl and '
    "test.jsonl into TFDS's manual_dir"
  ),
  citation='Grusky, Naaman and Artzi 2018, "Newsroom", NAACL',
)

# `<file_photo>` -> `[photo]`.
FILES = substitute(r'<(?:file_)?(\w+)>', r'[\1]')

SAMSUM = Dataset(
  name='samsum',
  paper_name='SamSum',
  cluster='summarization',
  source=Tfds('samsum:1.0.0'),
  train='train',
  dev='validation[:200]',
  test='test',
  sizes={'train': 14_732, 'validation': 818, 'test': 819},
  fields={
    'chat': Field('dialogue', FILES),
    'beginning': Field('dialogue', FILES, prose, sentences(130)),
    'summary': 'summary',
  },
  cleaning=prose,
  answer=Text('{summary}'),
  metric='rouge',
  templates=(
    Template('{chat}\n\nI missed this. Catch me up briefly.'),
    Template(
      'Report in the third person what the people below wrote to each other.\n\n{chat}'
    ),
    Template('What do the friends in this chat settle, find out or plan?\n\n{chat}'),
    Template(
      "You have just read somebody's phone over their shoulder. Now tell me what went on.\n\nOn the screen:\n{chat}"
    ),
    Template(
      'Even a very informal meeting deserves minutes. Take them, briefly, from the log.\n\n{chat}\n\nMinutes:'
    ),
    Template('Who tells whom what here, and what comes of it?\n\n{chat}'),
    Template('Messages:\n{chat}\n\nWhat a bystander would gather from them:'),
    Template(
      'Leave out the greetings and emoticons and give just the outcome of the exchange that follows.\n\n{chat}'
    ),
    Template(
      'How might a text-message conversation begin that could be described like this?\n\n{summary}',
      '{beginning}',
      inverted=True,
    ),
    Template(
      "A treatment tells a screenwriter what a scene is about. Write the opening of the chat that this one describes, with the sender's name before each turn.\n\nTreatment: {summary}",
      '{beginning}',
      inverted=True,
    ),
  ),
  license=(
    'CC BY-NC-ND 4.0; manual download: corpus.7z of arXiv 1911.12237, its three '
    "JSON files into TFDS's manual_dir"
  ),
  citation='Gliwa et al. 2019, "SAMSum Corpus", Workshop on New Frontiers in Summarization; arXiv:1911.12237',
)

# Placeholder for a video; copies other than TFDS 1.1.0 have it.
PLAYER = r'Media playback is (?:un|not )supported on (?:your|this) device\n?'

XSUM = Dataset(
  name='xsum',
  paper_name='XSum',
  cluster='summarization',
  source=Tfds('xsum:1.1.0'),
  train='train[:30000]',
  dev='validation[:200]',
  test='test',
  sizes={'train': 203_577, 'validation': 11_305, 'test': 11_301},
  fields={
    'document': Field('document', drop(PLAYER), prose, opening(WORDS)),
    'beginning': Field('document', drop(PLAYER), prose, sentences(80)),
    'sentence': 'summary',
  },
  cleaning=prose,
  answer=Text('{sentence}'),
  metric='rouge',
  templates=(
    Template('{document}\n\nIn one sentence, please: what has happened?'),
    Template(
      'On the website of the BBC every report is introduced by a sentence in bold type. Which one suits the report below?\n\n{document}'
    ),
    Template('If only a line could stay of all this, what would it be?\n\n{document}'),
    Template(
      'The first sentence, the one that carried the news, is missing here. Restore it.\n\n{document}'
    ),
    Template('Take this in, then give me the news in one breath.\n\n{document}'),
    Template(
      "Subscribers' phones are about to buzz with a single sentence on the following item. Word the alert.\n\n{document}\n\nAlert:"
    ),
    Template(
      'Body of the text: {document}\n\nIntroduction, no longer than a sentence:'
    ),
    Template(
      "Find the point of what you see below, among all its details, and state it as a news anchor's opening line.\n\n{document}"
    ),
    Template(
      'A report was introduced with these words:\n\n{sentence}\n\nHow did it go on?',
      '{beginning}',
      inverted=True,
    ),
    Template(
      'Starting from the one-line version, write the beginning of the full news item.\n\nOne line: {sentence}\nFull item:',
      '{beginning}',
      inverted=True,
    ),
  ),
  license=(
    'BBC text, research use; manual download: xsum-extracts-from-downloads.tar.gz, '
    "made by the authors' scripts (github.com/EdinburghNLP/XSum), into TFDS's manual_dir"
  ),
  citation='Narayan, Cohen and Lapata 2018, "Don\'t Give Me the Details, Just the Summary!", EMNLP',
  note=(
    "FLAN's first release used 1.0.0 and its last a Hugging Face copy; 1.1.0 is the "
    'current one and leaves out what the crawl took from the page around the text.'
  ),
)

# AG's lost ampersands: ` #39;s`, ` quot;`; and backslashes for line breaks.
AG_CLEANING = (
  substitute(r' ?(?<![&\w])(#\d+|quot|amp|lt|gt);', r'&\1;'),
  prose,
  drop(r'<[^>]*>'),
  replace('\\$', '$'),
  replace('\\', ' '),
)

AG_NEWS_SUBSET = Dataset(
  name='ag_news_subset',
  paper_name='AG News',
  cluster='summarization',
  source=Tfds('ag_news_subset:1.0.0'),
  train='train[:30000]',
  dev='train[-200:]',
  test='test',
  sizes={'train': 120_000, 'test': 7_600},
  fields={
    'title': Field('title', *AG_CLEANING),
    'text': Field('description', *AG_CLEANING),
  },
  cleaning=prose,
  answer=Label('label', ('World', 'Sports', 'Business', 'Science/Tech')),
  metric='accuracy',
  templates=(
    Template(
      '{title}\n{text}\n\nWhich page of the newspaper does this belong on?\n\n{OPTIONS}'
    ),
    Template(
      'An editor routes each item to one of the desks listed. Choose for this item.\n\n{title}\n\n{text}\n{OPTIONS}'
    ),
    Template(
      'You see this heading and read on.\n\n{title}\n{text}\n\nWhat sort of news is it?\n{OPTIONS}'
    ),
    Template(
      'Put the clipping into the right folder.\n\nClipping: {text}\nIts heading: {title}\n\n{OPTIONS}'
    ),
    Template(
      '{text}\n\nName the section that carried these words. They were printed under the following heading.\n\n{title}\n\n{OPTIONS}'
    ),
    Template(
      'Every reader of our newsletter has signed up for one kind of story. Under which kind does the one below go out?\n\nStory: {title}\n{text}\n\n{OPTIONS}'
    ),
    Template('Headline: {title}\nLead: {text}\nSection?\n{OPTIONS}'),
    Template(
      'Going by both heading and text, tag the following with its subject.\n\n* {title}\n* {text}\n\n{OPTIONS}'
    ),
    Template(
      'Under what headline might our {answer} editor run this?\n\n{text}',
      '{title}',
      inverted=True,
    ),
    Template(
      '{text}\n\nThat ran in the {answer} section with a short heading on top. What was the heading?',
      '{title}',
      inverted=True,
    ),
  ),
  license='AG corpus: non-commercial use',
  citation='Zhang, Zhao and LeCun 2015, "Character-level Convolutional Networks for Text Classification", NeurIPS',
)

OPINION_ABSTRACTS_ROTTEN_TOMATOES = Dataset(
  name='opinion_abstracts_rotten_tomatoes',
  paper_name='Opin-Abs: Movie',
  derived_from=('Rotten Tomatoes reviews',),
  cluster='summarization',
  source=Tfds('opinion_abstracts/rotten_tomatoes:1.0.0'),
  train='train[:-600]',
  dev='train[-600:-500]',
  test='train[-500:]',
  sizes={'train': 3_731},
  fields={
    'movie': '_movie_name',
    'reviews': Field('_critics/value', first(10), numbered),
    'review': Field('_critics/value', pick(0)),
    'consensus': '_critic_consensus',
  },
  cleaning=prose,
  answer=Text('{consensus}'),
  metric='rouge',
  templates=(
    Template(
      'Critics on {movie}:\n\n{reviews}\n\nBoil their verdicts down to one on which they could all agree.'
    ),
    Template(
      '{reviews}\n\nThose are press notices for {movie}. How was it received, in brief?'
    ),
    Template(
      'What do reviewers as a body make of the film {movie}? Judge from these excerpts.\n\n{reviews}'
    ),
    Template(
      'A cinema wants an honest line for its program, true to what was written about {movie}.\n\n{reviews}\n\nLine:'
    ),
    Template(
      'Find the common ground among the opinions below and phrase it as a balanced judgment of {movie}.\n\n{reviews}'
    ),
    Template(
      "Should I see {movie}? I would rather have the critics' view than yours, and briefly.\n\n{reviews}"
    ),
    Template('Film: {movie}\nNotices:\n{reviews}\nOverall verdict:'),
    Template(
      'Praise and complaint about {movie} follow. Average them out.\n\n{reviews}'
    ),
    Template(
      'By and large the press thought this of {movie}: {consensus}\n\nMake up a comment that one of its writers might have contributed.',
      '{review}',
      inverted=True,
    ),
    Template(
      'Which title are all these people discussing?\n\n{reviews}',
      '{movie}',
      inverted=True,
    ),
  ),
  license='no license stated: research use',
  citation='Wang and Ling 2016, "Neural Network-Based Abstract Generation for Opinions and Arguments", NAACL',
  note='The first ten reviews of a film are used.',
)

OPINION_ABSTRACTS_IDEBATE = Dataset(
  name='opinion_abstracts_idebate',
  paper_name='Opin-Abs: iDebate',
  cluster='summarization',
  source=Tfds('opinion_abstracts/idebate:1.0.0'),
  train='train[:-600]',
  dev='train[-600:-500]',
  test='train[-500:]',
  sizes={'train': 2_259},
  fields={
    'motion': '_debate_name',
    'arguments': Field('_argument_sentences/value', first(10), numbered),
    'argument': Field('_argument_sentences/value', pick(0)),
    'claim': '_claim',
  },
  cleaning=prose,
  answer=Text('{claim}'),
  metric='rouge',
  templates=(
    Template(
      'Under debate: {motion}\n\nA speaker gives these grounds:\n\n{arguments}\n\nWhat is the speaker getting at?'
    ),
    Template(
      '{arguments}\n\nEach statement above supports one and the same claim, made when the house debated the motion below. Spell the claim out.\n\n{motion}'
    ),
    Template(
      'Motion: {motion}\nEvidence offered:\n{arguments}\nThesis it is meant to establish:'
    ),
    Template(
      'Name the conclusion to which the reasons below lead. They were put forward on this motion: {motion}\n\n{arguments}'
    ),
    Template(
      'A judge has noted the motion, and then only supporting sentences. Add the claim that they support.\n\nMotion: {motion}\nNotes:\n{arguments}'
    ),
    Template(
      'What single assertion is being argued for here?\n\n{arguments}\n\n(Under debate: {motion})'
    ),
    Template(
      'You will close for your side in a debate. Tell the house briefly what your points amount to.\n\nMotion: {motion}\nPoints:\n{arguments}'
    ),
    Template(
      'Topic: {motion}\n\n{arguments}\n\nCapture, as tersely as you can, the position that somebody who says all this is taking.'
    ),
    Template(
      'Motion: {motion}\nSomeone maintains: {claim}\n\nOffer an argument in favor of that.',
      '{argument}',
      inverted=True,
    ),
    Template(
      'People were debating something when these things were said. What was it?\n\n{arguments}',
      '{motion}',
      inverted=True,
    ),
  ),
  license='no license stated: research use',
  citation='Wang and Ling 2016, "Neural Network-Based Abstract Generation for Opinions and Arguments", NAACL',
  note='The first ten sentences of an argument are used.',
)

WIKI_LINGUA_ENGLISH_EN = Dataset(
  name='wiki_lingua_english_en',
  paper_name='Wiki Lingua EN',
  derived_from=('wikiHow',),
  cluster='summarization',
  source=Tfds('gem/wiki_lingua_english_en:1.1.0'),
  train='train[:30000]',
  dev='validation[:200]',
  test='test',
  sizes={'train': 99_020, 'validation': 13_823, 'test': 28_614},
  fields={
    'guide': Field('source', prose, opening(WORDS)),
    'beginning': Field('source', prose, sentences(80)),
    'steps': Field('target', prose, sentences(170)),
  },
  cleaning=prose,
  answer=Text('{steps}'),
  metric='rouge',
  templates=(
    Template('{guide}\n\nReduce these instructions to their bare steps.'),
    Template(
      'A how-to page goes on at length. Give only what the reader is meant to do.\n\n{guide}'
    ),
    Template(
      'Write the quick version of this guide: a short imperative sentence for each piece of advice.\n\n{guide}'
    ),
    Template('What, above all, does the following advice tell one to do?\n\n{guide}'),
    Template(
      'Make me a checklist for the fridge door out of the text below.\n\n{guide}'
    ),
    Template(
      'Someone has explained in great detail how a thing is done.\n\n{guide}\n\nNow say it in a few lines.'
    ),
    Template('Long instructions: {guide}\n\nCrib notes:'),
    Template(
      'For users with small screens, list the essential actions recommended here and skip every explanation.\n\n{guide}'
    ),
    Template(
      'Here is the outline of some practical advice:\n\n{steps}\n\nFlesh out the start of it.',
      '{beginning}',
      inverted=True,
    ),
    Template(
      'Advice in brief: {steps}\n\nHow might the detailed form of it begin?',
      '{beginning}',
      inverted=True,
    ),
  ),
  license='CC BY-NC-SA 3.0 (WikiHow)',
  citation='Ladhak et al. 2020, "WikiLingua", Findings of EMNLP; Gehrmann et al. 2021, "The GEM Benchmark", GEM workshop',
)

DATASETS = (
  AESLC,
  CNN_DAILYMAIL,
  GIGAWORD,
  MULTI_NEWS,
  NEWSROOM,
  SAMSUM,
  XSUM,
  AG_NEWS_SUBSET,
  OPINION_ABSTRACTS_ROTTEN_TOMATOES,
  OPINION_ABSTRACTS_IDEBATE,
  WIKI_LINGUA_ENGLISH_EN,
)
