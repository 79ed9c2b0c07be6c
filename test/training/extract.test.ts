import { describe, expect, it } from 'vitest'
import * as rules from '../../training/data/extract/extract.ts'
import { customProfile, profileOf } from '../../training/data/extract/profile.ts'
import { countForks, depthOf, type Part, type Rule } from '../../training/data/extract/structure.ts'

/** The items of most examples here are alike. */
const REPEATING = customProfile({ repeats: 'allow' })
const extract = (answer: string, profile = REPEATING) => rules.extract(answer, profile)
const extractConversation = (conversation: Parameters<typeof rules.extractConversation>[0]) =>
  rules.extractConversation(conversation, REPEATING)

/** The answer in document order, each branch in ⟦ and ⟧. */
const marked = (parts: readonly Part[]): string =>
  parts.map(({ text, detail }) => text + (detail ? `⟦${marked(detail)}⟧` : '')).join('')

const forks = (answer: string) => {
  const result = extract(answer)
  if (!('structure' in result)) throw new Error(`refused by ${result.rule}`)
  return { kind: result.structure.kind, text: marked(result.structure.parts) }
}

/** The answer that remains without the marks of `wanted` forks as the marks say. */
const expectForks = (kind: string, wanted: string) =>
  expect(forks(wanted.replaceAll(/[⟦⟧]/g, ''))).toEqual({ kind, text: wanted })

const three = (item: (n: number) => string, joint = '\n') => [1, 2, 3].map(item).join(joint)

describe('numbered lists', () => {
  it('keep titles in the main text, and every detail is a branch', () => {
    expect(
      extract('Three:\n\n1. Well: draw two buckets\n2. Brook: carry it up\n3. Rain: wait for it\n\nDone.'),
    ).toEqual({
      structure: {
        kind: 'list',
        parts: [
          { text: 'Three:\n\n1. Well:', detail: [{ text: ' draw two buckets' }] },
          { text: '\n2. Brook:', detail: [{ text: ' carry it up' }] },
          { text: '\n3. Rain:', detail: [{ text: ' wait for it' }] },
          { text: '\n\nDone.' },
        ],
      },
    })
  })

  it.each([
    ['a full-width colon', three((n) => `${n}. Title：⟦the detail of it⟧`)],
    ['Chinese numbers', three((n) => `${n}、标题：⟦这是一个足够长的说明文字。⟧`)],
    ['a closing bracket', three((n) => `${n}) Title:⟦ the detail of it⟧`)],
    ['another first number', three((n) => `${n + 3}. Title:⟦ the detail of it⟧`)],
    ['blank lines between items', `${three((n) => `${n}. Title:⟦ the detail of it⟧`, '\n\n')}\n\nDone.`],
    ['CRLF', `Three:\r\n\r\n${three((n) => `${n}. Title:⟦ the detail of it⟧`, '\r\n')}\r\n\r\nDone.\r\n`],
    ['indentation', `Three:\n\n${three((n) => `  ${n}. Title:⟦ the detail of it⟧`)}\n`],
    [
      'a first line that lost its indentation',
      '1. A:⟦ the first detail⟧\n  2. B:⟦ the second detail⟧\n  3. C:⟦ the third detail⟧',
    ],
    [
      'a last item of several lines',
      `${three((n) => `${n}. Title:⟦ the detail\nand more of it⟧`)}\n\nThe end.`,
    ],
    [
      'text between items',
      `${three((n) => `${n}. Title:⟦ the detail of it\n\nwith a paragraph⟧`, '\n\n').replace(/\n\nwith a paragraph⟧$/, '⟧')}\n\nwith a paragraph`,
    ],
    ['titles on a line of their own', three((n) => `${n}. Title:⟦\nthe detail of it⟧`)],
    [
      'a detail behind a blank line',
      `${three((n) => `${n}. **Title**⟦\n\nthe detail of it⟧`, '\n\n')}\n\nDone.`,
    ],
    [
      'a closing line without a blank one',
      `${three((n) => `${n}. Title:⟦ the detail of it⟧`)}\nRemember to rest.`,
    ],
    ['a label behind the last item', `${three((n) => `${n}. Title:⟦ the detail of it⟧`)}\nNotes:\nnone`],
    ['an item without a title', `${three((n) => `${n}. Title:⟦ the detail of it⟧`)}\n4. Enjoy!`],
  ])('accept %s', (_, answer) => expectForks('list', answer))

  it.each([
    ['**Title:**', ' the detail'],
    ['**Title**:', ' the detail'],
    ['**Title** -', ' the detail'],
    ['**Title** –', ' the detail'],
    ['**Title**—', 'the detail'],
    ['**Title.**', ' the detail'],
    ['**Title**', ' The detail'],
    ['__Title:__', ' the detail'],
    ['*Title*:', ' the detail'],
    ['***Title***:', ' the detail'],
    ['**Title (a: b)**:', ' the detail'],
    ['**Tit:le** and *more*:', ' the detail'],
    ['`a: b`:', ' the detail'],
    ['"A: B" by C -', ' the detail'],
    ['[Title: one](http://x.y/z):', ' the detail'],
    ['Title (10:30 - 11:00):', ' the detail'],
    ['At 10:30 see std::vector:', ' the detail'],
    ['Mr. T. of the U.S. e.g. Ohio:', ' the detail'],
    ['max_depth and 2*3*4:', ' the detail'],
    ['Title –', ' the detail'],
  ])('cut a title %s behind it', (title, detail) => {
    expectForks(
      'list',
      three((n) => `${n}. ${title}⟦${detail} is long enough⟧`),
    )
  })

  it('cut a number that is bold with its title, and one that is bold alone', () => {
    expectForks(
      'list',
      three((n) => `**${n}. Title:**⟦ the detail of it⟧`),
    )
    expectForks(
      'list',
      three((n) => `**${n}.** Title:⟦ the detail of it⟧`),
    )
  })

  it('do not take a sentence for a title', () => {
    const answer = three((n) => `${n}. Do this. Then take care: hot`)
    expect(extract(answer)).toEqual({ rule: 'no_structure', keep: true })
  })

  it('without titles fork behind the first sentence', () => {
    expectForks(
      'list',
      three((n) => `${n}. Choose a name for Mr. Fox.⟦ It should be short and easy.⟧`),
    )
    const profile = customProfile({ sentenceItems: false })
    const answer = three((n) => `${n}. Choose a name for your garden. It should be short and easy.`)
    expect(extract(answer, profile)).toEqual({ rule: 'no_structure', keep: true })
  })

  it('may be several in one answer', () => {
    const list = three((n) => `${n}. Title:⟦ the detail of it⟧`)
    expectForks('list', `Water:\n\n${list}\n\nThen shade:\n\n${list}\n\nThen rest.`)
    expectForks('list', `Water:\n${list}\nThen shade:\n${list}`)
    expectForks('list', `${list}\n\n${list}`)
  })

  it('go on behind text, which is part of an item or introduces the next one', () => {
    const item = (n: number) => `${n}. Title:⟦ the detail of it⟧`
    expectForks('list', `${item(1)}\n${item(2)}\n\nThe second part:\n\n${item(3)}\n${item(4)}`)
    const long = '2. Title:⟦ the detail of it\n\nMore of the second.⟧'
    expectForks('list', `${item(1)}\n${long}\n\n${item(3)}\n${item(4)}`)
  })

  it.each<[Rule, string, string]>([
    ['list_too_short', 'two items', '1. Title: the first detail\n2. Title: the second one'],
    ['list_numbering', 'a gap', three((n) => `${n * n}. Title: the detail of it`)],
    ['list_numbering', 'only ones', three(() => '1. Title: the detail of it')],
    ['list_detail_too_short', 'short details', three((n) => `${n}. Title: short`)],
    ['list_mixed', 'few titles', `${three((n) => `${n}. Title: the detail of it`)}\n4. b\n5. b\n6. c\n7. d`],
  ])('are dropped by %s: %s', (rule, _, answer) => {
    expect(extract(answer)).toEqual({ rule, keep: false })
  })

  it('without titles and details have nothing to fork, and are kept', () => {
    const answer = 'You need:\n\n1. Flour\n2. Water\n3. Salt\n\nThat is all.'
    expect(extract(answer)).toEqual({ rule: 'paragraphs_too_few_forks', keep: true })
  })
})

describe('bullets, headings and what is inside of them', () => {
  it.each(['-', '*', '+', '•'])('lists with %s fork', (bullet) => {
    expectForks('bullets', `Three:\n\n${three(() => `${bullet} **Title**:⟦ the detail of it⟧`)}\n\nDone.`)
  })

  it('text behind a blank line is not part of a bullet', () => {
    expectForks('bullets', `${three(() => '- Title:⟦ the detail of it⟧')}\n\nNot part of it.`)
  })

  it('sections fork behind their headings', () => {
    expectForks(
      'headings',
      `# Garden\n\nIntroduction.\n\n${three((n) => `## Part ${n}⟦\n\nThe text of it.⟧`, '\n\n---\n\n')}\n`,
    )
    expectForks(
      'headings',
      three((n) => `**Part ${n}**⟦\nThe text of it.⟧`, '\n\n'),
    )
  })

  it('what ends an answer is not part of its last section', () => {
    expectForks(
      'headings',
      `${three((n) => `## Part ${n}⟦\nThe text of it.⟧`, '\n')}\n\nWould you like more?`,
    )
  })

  it('lists inside of sections and of items fork in their branch', () => {
    const inner = three(() => '   - Title:⟦ the detail of it⟧')
    const list = three((n) => `${n}. **Item**⟦\n${inner}⟧`)
    const answer = three((n) => `## Part ${n}⟦\n\nText.\n\n${list}⟧`, '\n\n')
    expectForks('headings', answer)
    const result = extract(answer.replaceAll(/[⟦⟧]/g, ''))
    if (!('structure' in result)) throw new Error('refused')
    expect([countForks(result.structure.parts), depthOf(result.structure.parts)]).toEqual([3 + 9 + 27, 4])
  })

  it('do not fork deeper than the profile says', () => {
    const answer = three((n) => `${n}. A:\n${three(() => '   - B: the detail of it')}`)
    const at = (maxDepth: number) => {
      const result = extract(answer, customProfile({ maxDepth, repeats: 'allow' }))
      return 'structure' in result ? depthOf(result.structure.parts) : result.rule
    }
    expect([at(1), at(2), at(3), at(4)]).toEqual(['no_structure', 2, 3, 3])
  })

  it('bullets below numbered items without indentation are part of them', () => {
    expectForks(
      'list',
      three((n) => `${n}. Item:⟦\n- one thing\n- another thing⟧`),
    )
    expectForks(
      'list',
      three((n) => `${n}. Item:⟦\n\n- one thing\n\n- another thing⟧`, '\n\n'),
    )
  })

  it('lists that fork do so below a list or a section that does not', () => {
    expectForks('bullets', `1. Buy\n${three(() => '   - Title:⟦ the detail of it⟧')}\n2. Go home`)
    expectForks('list', `## Only section\n\n${three((n) => `${n}. Title:⟦ the detail of it⟧`)}`)
  })

  it.each(['lists', 'bullets', 'headings'] as const)('the switch %s turns them off', (name) => {
    const answer = { lists: '1. T: the detail', bullets: '- T: the detail', headings: '# T\nthe detail' }[
      name
    ]
    const repeated = [1, 2, 3].map((n) => answer.replace('1', String(n))).join('\n')
    expect(extract(repeated)).toHaveProperty('structure')
    expect(extract(repeated, customProfile({ [name]: false }))).not.toHaveProperty('structure')
  })
})

describe('paragraphs', () => {
  const one = 'The first sentence is this one.⟦ The rest of it goes on for a while.⟧'
  const after = (first: string) => [`${first}⟦ The rest of it goes on for a while.⟧`, one, one].join('\n\n')

  it.each([
    'Mr. Green and Dr. J. R. Brown went out at 5 p.m. to look.',
    'Roots, e.g. of 3.5 metres, i.e. long ones, are found in the U.S. today.',
    'It costs more than No. 5 in the list (see fig. 2. It is old) does.',
    'She said "Go on. Do not stop." and then she went home.',
    '**Bold. And still bold** is how this sentence begins.',
    'What does the first question of this paragraph ask?',
  ])('are cut behind: %s', (first) => expectForks('paragraphs', after(first)))

  it('are cut without spaces in Chinese', () => {
    const chinese =
      '水是花园里最重要的东西，一天也不能少，夏天尤其如此。⟦其次是树荫，再其次是覆盖在土壤上面的稻草。⟧'
    expectForks('paragraphs', [chinese, chinese, chinese].join('\n\n'))
  })

  it('stay whole when they have a list, introduce something, are verse, or have short pieces', () => {
    const whole = [
      'We do this. We follow these steps:\n1. Mix the dough. Wait for it.\n2. Bake it',
      'There is more to be said about this. Here are the things to look at:',
      'A line of verse that ends here.\nAnother line of verse that ends here.',
      'Short. And then a longer sentence that goes on and on.',
      '| a table. With cells that are | not cut. Not in this one |',
    ]
    expectForks('paragraphs', [one, whole[0], one, ...whole.slice(1), one].join('\n\n'))
  })

  it('no fork follows the number of a line', () => {
    const steps =
      'A baker follows these steps:\n1. Mix the dough in the evening\n2. Let it rest until morning'
    expectForks('paragraphs', [one, steps, one, one].join('\n\n'))
  })

  it.each<[Rule, boolean, string[]]>([
    ['no_structure', true, [one, one]],
    ['paragraphs_too_few_forks', false, [one, one, 'A single sentence and nothing else.']],
    ['paragraphs_too_few_forks', true, [one, 'One sentence.', 'Another one.', 'And one more.']],
  ])('are refused by %s (kept: %s)', (rule, keep, paragraphs) => {
    expect(extract(paragraphs.join('\n\n').replaceAll(/[⟦⟧]/g, ''))).toEqual({ rule, keep })
  })

  it('are split when a list is too short to fork', () => {
    expectForks('paragraphs', [one, one, one, '1. Only one: with its detail'].join('\n\n'))
  })
})

describe('text that is not cut', () => {
  const list = three((n) => `${n}. Title: the detail of it`)

  it('a list with code in its details is kept as unstructured text', () => {
    const answer = three((n) => `${n}. Title: the detail of it\n\`\`\`sh\n- run: this or that\n\`\`\``)
    expect(extract(answer)).toEqual({ rule: 'code_fence', keep: true })
  })

  it('a list beside code forks, and nothing inside of the code does', () => {
    expectForks(
      'list',
      `\`\`\`\n${list}\n\n# a\n# b\n\`\`\`\n\n${three((n) => `${n}. Title:⟦ the detail of it⟧`)}`,
    )
  })

  it.each<[Rule, string, boolean]>([
    ['code_fence', '```js\n1\n```', true],
    ['code_fence', '```\nnever closed\n\n1. a: the detail\n2. b: the detail\n3. c: the detail', true],
    ['code', `import os\nimport sys\n\n${three((n) => `# Part ${n}\nprint(${n})`)}`, true],
    ['maths', `${list}\n\n$$x$$`, true],
    ['equations', `${list}\n\n\\[ x \\]`, true],
    ['equations', `${list}\n\na + b = c\nso c = 3`, true],
    ['steps', three((n) => `### Step ${n}: Look\nThe text of it.`), true],
    ['no_structure', 'One plain sentence.', true],
    ['marker', 'a [Fork] of my own', false],
    ['marker', 'an early </s>', false],
    ['marker', 'the end<|im_end|>', false],
    ['empty_answer', ' \n', false],
  ])('%s', (rule, answer, keep) => {
    expect(extract(answer)).toEqual({ rule, keep })
  })

  it.each(['a < b > c', 'a = b', 'http://example.com', '---', '한국어'])(
    'text with %s does not stop a list',
    (text) => {
      expect(extract(`${list}\n\n${text}`)).toHaveProperty('structure')
    },
  )

  it('prose with semicolons is no code', () => {
    expect(
      extract(`${list}\n\nOne needs:\n\n${three(() => '    a good deal of water every day;')}`),
    ).toHaveProperty('structure')
  })

  it('a text switch refuses what it names', () => {
    expect(extract(`${list} = b`, customProfile({ equals: 'keep' }))).toEqual({ rule: 'equals', keep: true })
    expect(extract(`${list} 한국어`, customProfile({ cjk: 'drop' }))).toEqual({ rule: 'cjk', keep: false })
    expect(() => customProfile({ maxDepth: 0 })).toThrow(
      'rule switch maxDepth: expected a whole number from 1',
    )
  })

  it('switches may be given as text', () => {
    expect(profileOf(['paragraphs=false', 'maxDepth=2', 'link=drop'])).toEqual(
      customProfile({ paragraphs: false, maxDepth: 2, link: 'drop' }),
    )
    const refused = (change: string) => expect(() => profileOf([change]))
    refused('paragraphs=no').toThrow('rule paragraphs=no: expected true, false')
    refused('maxDepth=-1').toThrow('rule maxDepth=-1: expected NAME=VALUE')
    refused('maxDepth=0').toThrow('from 1')
    refused('link=refuse').toThrow('rule link=refuse: expected allow, keep, drop')
    refused('keepWhiteSpace=false').toThrow('expected NAME=VALUE with a name of lists,')
  })

  it('an answer that repeats itself is left out, in nested lists too', () => {
    const items = (titles: string[], detail = (n: number) => `detail number ${n}`) =>
      titles.map((title, n) => `${n + 1}. **${title}**: ${detail(n)}`).join('\n')
    const refused = { rule: 'repeats', keep: false }
    expect(rules.extract(items(['Sun', 'Rain', 'Wind']))).toHaveProperty('structure')
    expect(rules.extract(items(['Sun', 'Rain', 'sun']))).toEqual(refused)
    expect(rules.extract(items(['Sun', 'Rain', 'Wind'], () => 'it is the weather'))).toEqual(refused)
    const nested = (last: string) =>
      three(
        (n) => `${n}. Part ${n}:\n${['a', 'b', last].map((t) => `   - ${t}: text of ${t}, ${n}`).join('\n')}`,
      )
    expect(rules.extract(nested('c'))).toHaveProperty('structure')
    expect(rules.extract(nested('a'))).toEqual(refused)
  })

  it('a conversation needs a turn, and no turn may spell out a special token', () => {
    const turn = (prompt: string, response: string) => ({ prompt, response })
    expect(extractConversation({ dialogs: [] })).toEqual({ rule: 'no_turn', keep: false })
    expect(extractConversation({ dialogs: [turn('Say [Child]', 'Fine.')] })).toEqual({
      rule: 'marker',
      keep: false,
    })
    const later = extractConversation({ dialogs: [turn('Q', list), turn('Q', 'a </s>')] })
    expect(later).toEqual({ rule: 'marker', keep: false })
    expect(extractConversation({ dialogs: [turn('Q', list), turn('Q', '$$x$$')] })).toHaveProperty(
      'structure',
    )
  })
})
