import { expect, test } from 'vitest'
import { schemasIn, type Tag, withGrammars } from '../../gpu-node/grammar/tag-grammar.ts'

const schema = (name: string): Tag => ({ type: 'json_schema', json_schema: { name } })
const text = (value: string): Tag => ({ type: 'const_string', value })
const keyOf = (name: string) => JSON.stringify({ name })

const A =
  'basic_any ::= (("root"))\nroot ::= (("{" root_1 "\\"root_1\\"" [root_1] basic_any "}"))\nroot_1 ::= ("" | (", "))'
const B = 'basic_any ::= (("root"))\nroot ::= ((basic_any))'
const C = 'basic_any ::= (("other"))\nroot ::= ((basic_any))'
const ebnf = new Map([
  [keyOf('a'), A],
  [keyOf('b'), B],
  [keyOf('c'), C],
])

test('a tag with fixed texts and schemas is one grammar, whose rules do not mix', () => {
  const call = { type: 'or', elements: [schema('a'), schema('b'), schema('c'), schema('a')] }
  const tag = { type: 'sequence', elements: [text('x"\n'), call, { type: 'star', content: call }] }
  expect([...schemasIn(tag)]).toEqual([keyOf('a'), keyOf('b'), keyOf('c')])
  const one = '(of_0_root | of_1_root | of_2_root | of_0_root)'
  expect(withGrammars(tag, ebnf)).toEqual({
    type: 'grammar',
    grammar: [
      `root ::= ("x\\u0022\\u000a" ${one} (${one})*)`,
      'basic_any ::= (("root"))',
      'of_0_root ::= (("{" of_0_root_1 "\\"root_1\\"" [root_1] basic_any "}"))',
      'of_0_root_1 ::= ("" | (", "))',
      'of_1_root ::= ((basic_any))',
      'of_2_basic_any ::= (("other"))',
      'of_2_root ::= ((of_2_basic_any))',
    ].join('\n'),
  })
})

test('other parts of a tag stay', () => {
  const any = { type: 'any_text', excludes: ['<'] }
  const tag = { type: 'sequence', elements: [any, { type: 'optional', content: text('<') }] }
  expect(withGrammars(tag, ebnf)).toEqual({
    type: 'sequence',
    elements: [any, { type: 'grammar', grammar: 'root ::= ("<" | "")' }],
  })
})
