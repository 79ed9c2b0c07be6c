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
  ])('%s', (_, source, text) => {
    expect(textOf(new ProvenanceTemplate(source).render({}, []))).toBe(text)
  })
})
