import { expect, test } from 'vitest'
import { differences, formatFingerprint, parseFingerprint } from '../../shared/protocol/fingerprint.ts'

const OURS = { checkpoint: '00aa', dtype: 'bf16', kv_cache_dtype: 'fp8', device: '01' }

test('a fingerprint is read as it was written', () => {
  for (const fingerprint of [OURS, { ...OURS, grammar: '0c' }])
    expect(parseFingerprint(formatFingerprint(fingerprint))).toEqual(fingerprint)
})

test.each([undefined, '', 'fp_7a5c9cdd11', 'fp_a-b-c', 'fp_a-b-c-d-e', 'fp_a--c-d'])(
  '%o says nothing of the weights',
  (text) => {
    expect(parseFingerprint(text)).toBeUndefined()
  },
)

test('differences are those in checkpoint and numeric types, as far as they are known', () => {
  const of = (changes: object) => formatFingerprint({ ...OURS, ...changes })
  expect(differences([of({}), of({ device: '02' }), undefined, 'fp_7a5c9cdd11'])).toEqual([])
  expect(differences([of({}), of({ checkpoint: '00bb' })])).toEqual(['checkpoint'])
  expect(differences([of({}), of({ dtype: 'int8' }), of({ kv_cache_dtype: 'bf16' })])).toEqual([
    'dtype',
    'kv_cache_dtype',
  ])
  expect(differences([of({}), of({ grammar: '0c' })])).toEqual([])
  expect(differences([of({}), of({ grammar: '0c' }), of({ grammar: '0d' })])).toEqual(['grammar'])
})
