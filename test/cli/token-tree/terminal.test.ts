import { stripVTControlCharacters } from 'node:util'
import { describe, expect, it } from 'vitest'
import { terminalTree } from '../../../cli/token-tree/terminal.ts'
import { visible } from '../../../cli/token-tree/visible.ts'
import type { Token, TokenTree } from '../../../shared/token-tree.ts'

const written = (text: string, id?: number): Token => ({ text, id, given: false })
const given = (text: string, id?: number): Token => ({ text, id, given: true })
const mark = (special: string, isGiven = false): Token => ({ text: '', special, id: 9, given: isGiven })

const tree: TokenTree = {
  title: 'fruit',
  facts: [
    ['kind', 'list'],
    ['longer name', '2'],
  ],
  words: { written: 'learned', given: 'masked' },
  segments: [
    {
      parent: undefined,
      branch: 0,
      tokens: [given('Which', 1), given(' fruit?\n', 2), written('Apples:', 3), mark('[Fork]')],
    },
    {
      parent: 0,
      branch: 1,
      tokens: [mark('[Child]', true), written(' they', 4), written(' are red.', 5), mark('[Fork]')],
    },
    { parent: 0, branch: 0, tokens: [written('\n', 6), written('Pears.', 7), mark('</s>')] },
    { parent: 1, branch: 2, tokens: [mark('[Child]', true), written(' deep', 8), mark('</s>')] },
    { parent: 1, branch: 1, tokens: [mark('</s>')] },
  ],
}

const PLAIN = `fruit
kind         list
longer name  2

╭ branch 0 · depth 1 · 7 tokens
┊ Which fruit?↵
│ Apples:[Fork]→1
│ ╭ branch 1 · depth 2 · 5 tokens
│ │ [Child] they are red.[Fork]→2
│ │ ╭ branch 2 · depth 3 · 3 tokens
│ │ │ [Child] deep</s>
│ │ </s>
│ ↵
│ Pears.</s>

│ learned   ┊ masked   →n: branch n begins here
`

describe('a tree in the terminal', () => {
  it('indents children below their fork, and says what is learned', () => {
    expect(terminalTree(tree, { colours: false })).toBe(PLAIN)
  })

  it('in colours is the same text', () => {
    const coloured = terminalTree(tree, { colours: true })
    expect(coloured).not.toBe(PLAIN)
    expect(stripVTControlCharacters(coloured)).toBe(PLAIN)
  })

  it('wraps between tokens, inside of the gutter', () => {
    const tokens = Array.from({ length: 10 }, (_, at) => written(` word${at}`))
    const long: TokenTree = { ...tree, facts: [], segments: [{ parent: undefined, branch: 0, tokens }] }
    const lines = terminalTree(long, { colours: false, columns: 30 }).split('\n').slice(3, -3)
    expect(lines).toEqual(['│  word0 word1 word2 word3', '│  word4 word5 word6 word7', '│  word8 word9'])
  })

  it('counts wide characters twice', () => {
    const tokens = Array.from({ length: 20 }, () => written('日'))
    const wide: TokenTree = { ...tree, facts: [], segments: [{ parent: undefined, branch: 0, tokens }] }
    const lines = terminalTree(wide, { colours: false, columns: 24 }).split('\n').slice(3, -3)
    expect(lines).toEqual(['│ 日日日日日日日日日日日', '│ 日日日日日日日日日'])
  })

  it('shows pieces with their ids', () => {
    const shown = terminalTree(tree, { colours: false, tokens: true })
    expect(shown).toContain('┊ "Which" 1  " fruit?\\n" 2\n│ "Apples:" 3  [Fork] 9  →1\n')
  })

  it('gives the terminal no control characters', () => {
    const text = 'a\u001b[31mb\u0007\u009b\u202ec\r\u{e0041}\ud800'
    const hostile: TokenTree = {
      title: text,
      facts: [[text, text]],
      words: tree.words,
      segments: [{ parent: undefined, branch: 0, tokens: [written(text), mark(text)] }],
    }
    for (const tokens of [false, true]) {
      const shown = terminalTree(hostile, { colours: false, tokens })
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
      expect(shown).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]|\p{Surrogate}/u)
      expect(shown).toContain('⟨U+202E⟩')
    }
  })
})

describe('visible text', () => {
  it('keeps what can be seen, and marks line breaks', () => {
    expect(visible('é 日本 👩‍🌾\ta\nb')).toBe('é 日本 👩‍🌾\ta↵\nb')
    expect(visible('\u200b\r\n')).toBe('⟨U+200B⟩⟨U+000D⟩↵\n')
  })
})
