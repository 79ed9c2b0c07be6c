import { expect, test } from 'vitest'
import { areDisjoint } from '../../gpu-node/grammar/disjoint.ts'

const kind = (schema: object, required = ['kind']) => {
  return { type: 'object', properties: { kind: schema, size: { type: 'integer' } }, required }
}
const root = {
  $defs: {
    cat: kind({ const: 'cat' }),
    dog: kind({ enum: ['dog', 'wolf'] }),
    'a/bird': kind({ const: 'bird' }),
    loop: { $ref: '#/$defs/loop' },
  },
}
const cat = { $ref: '#/$defs/cat' }
const dog = { $ref: '#/$defs/dog' }

test.each<[string, unknown[]]>([
  ['types', [{ type: 'string' }, { type: ['integer', 'null'] }, { type: 'array' }]],
  ['values', [{ const: 'a' }, { enum: ['b', 1] }, { const: null }]],
  ['a value and a type', [{ const: 'a' }, { type: 'integer' }]],
  ['members that are told apart', [cat, dog]],
  ['a member of a schema whose name is escaped', [cat, { $ref: '#/$defs/a~1bird' }]],
  ['members within members', [kind(cat), kind(dog)]],
  ['alternatives', [{ anyOf: [cat, { type: 'null' }] }, { oneOf: [dog, { type: 'string' }] }]],
])('no value fits two: %s', (_, schemas) => {
  expect(areDisjoint(schemas, root)).toBe(true)
})

test.each<[string, unknown[]]>([
  ['an integer is a number', [{ type: 'integer' }, { type: 'number' }]],
  ['the same value', [{ const: 'a' }, { enum: ['b', 'a'] }]],
  ['a value of the type', [{ const: 'a' }, { type: 'string' }]],
  ['a member that one of them may lack', [cat, kind({ const: 'dog' }, [])]],
  ['a member of which nothing is said', [cat, kind({})]],
  ['objects without a member in common', [cat, { type: 'object', properties: {}, required: [] }]],
  [
    'types of which more than objects are in common',
    [{ ...cat, $ref: undefined, type: ['object', 'null'] }, { type: ['object', 'null'] }],
  ],
  ['one alternative', [{ anyOf: [cat, dog] }, cat]],
  ['the first and the last', [cat, dog, cat]],
  ['a reference to itself', [{ $ref: '#/$defs/loop' }, cat]],
  ['a reference to nothing', [{ $ref: '#/$defs/none' }, cat]],
  ['anything', [{}, cat]],
])('a value may fit two: %s', (_, schemas) => {
  expect(areDisjoint(schemas, root)).toBe(false)
})
