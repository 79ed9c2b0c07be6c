import { describe, expect, test } from 'vitest'
import { textOf } from '../../gpu-node/text/piece.ts'
import { ProvenanceTemplate } from '../../gpu-node/text/provenance-template.ts'

const BUDGETS = '{% set budgets = {0: 1, 512: 128, 4096: 256} %}'

/** The texts are those of Jinja2 3.1. */
describe('a template may', () => {
  test.each<[string, string, string]>([
    [
      'sort by keys that are numbers',
      `${BUDGETS}{% for k, v in budgets|dictsort %}{{ k + 1 }}:{{ v }} {% endfor %}`,
      '1:1 513:128 4097:256 ',
    ],
    [
      'sort such a mapping by its values, the other way round',
      `${BUDGETS}{% for k, v in budgets|dictsort(by='value', reverse=true) %}{{ k }} {% endfor %}`,
      '4096 512 0 ',
    ],
    [
      'read members by numbers',
      `${BUDGETS}{{ budgets[512] }} {{ budgets.get(4096) }} {{ budgets.get(7, 'no') }} {{ budgets[7] }}.`,
      '128 256 no .',
    ],
    [
      'loop over them',
      `${BUDGETS}{% for k in budgets %}{{ k + 1 }} {% endfor %}{% for k, v in budgets.items() %}{{ k + v }} {% endfor %}{% for k, v in budgets|items %}{{ k - v }} {% endfor %}`,
      '1 513 4097 1 640 4352 -1 384 3840 ',
    ],
    [
      'ask for them',
      `${BUDGETS}{% if 512 in budgets and 513 not in budgets %}{{ budgets|length }}{% endif %}`,
      '3',
    ],
    ['write them as JSON', `${BUDGETS}{{ budgets|tojson }}`, '{"0": 1, "512": 128, "4096": 256}'],
    [
      'call methods of a mapping with members of their names',
      "{% set schema = {'items': {'type': 'x'}, 'keys': 1, 'get': 2} %}{% for k, v in schema.items() %}{{ k }} {% endfor %}{{ schema.keys()|length }} {{ schema.get('keys') }} {{ schema['items'].type }}",
      'items keys get 3 1 x',
    ],
    [
      'unpack tuples in a loop, also with a condition',
      "{% for a, b in [('m', 1), ('n', 2)] %}{{ a }}{{ b }} {% endfor %}{% for a, b in [('m', 1), ('n', 2)] if b > 1 %}{{ a }}{% endfor %}{% for a in none_such if a %}x{% endfor %}",
      'm1 n2 n',
    ],
    [
      'ask for the smallest and the largest value',
      "{{ [3, 1.5, 2]|min }} {{ [3, 1, 10]|max }} {{ ['b', 'A']|min }} {{ [7]|max }} {{ []|min }}.",
      '1.5 10 A 7 .',
    ],
    [
      'write values as Python does',
      '{{ false }} {{ true|string }} {{ (1, "a") }} {{ [] ~ {} ~ 1.0 ~ true }} {{ {1: 2, "z": [none]} }}',
      "False True (1, 'a') []{}1.0True {1: 2, 'z': [None]}",
    ],
  ])('%s', (_, source, text) => {
    expect(textOf(new ProvenanceTemplate(source).render({}, []))).toBe(text)
  })

  test("write texts in a value as Python does, and they are nobody's", () => {
    const value = {
      ü: [`it's`, `say "it's"`, '\n\r\t\\\x07\u00a0\u200b\u{e0001}🙂 '],
      a: { b: false, c: 2.5 },
    }
    const expected = String.raw`{'ü': ["it's", 'say "it\'s"', '\n\r\t\\\x07\xa0\u200b\U000e0001🙂 '], 'a': {'b': False, 'c': 2.5}}`
    const template = new ProvenanceTemplate('{{ value }}|{{ value|string }}')
    const pieces = template.render({}, [], { variables: { value } })
    expect(textOf(pieces)).toBe(`${expected}|${expected}`)
    expect(pieces.filter(({ ofTemplate }) => ofTemplate).map(({ text }) => text)).toEqual(['|'])
  })
})
