import fc from 'fast-check'
import { expect, it } from 'vitest'
import { utf8Length } from '../../shared/utf8.ts'

it('equals the length of the encoded text, also with lone surrogates', () => {
  const encoder = new TextEncoder()
  const unit = fc.oneof(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 0xd7f0, max: 0xe010 }))
  const units = fc.array(unit, { maxLength: 12 })
  fc.assert(
    fc.property(units, (codes) => {
      const text = String.fromCharCode(...codes)
      expect(utf8Length(text)).toBe(encoder.encode(text).length)
    }),
    { numRuns: 2000 },
  )
})
