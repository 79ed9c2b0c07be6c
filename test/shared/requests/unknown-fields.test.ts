import { expect, it } from 'vitest'
import { z } from 'zod'
import { parseBodyLeniently } from '../../../shared/requests/body.ts'

const Body = z.strictObject({
  parts: z.array(z.strictObject({ text: z.string() })),
  size: z.int().optional(),
})

it('leaves out unknown fields at every depth, and says which and how it would have refused them', () => {
  const text = '{"parts":[{"text":"a"},{"text":"b","more":{"text":1}}],"__proto__":1,"other":[2]}'
  const { body, unknown, refusal } = parseBodyLeniently(Body, text)
  expect(body).toEqual({ parts: [{ text: 'a' }, { text: 'b' }] })
  expect([...unknown].sort()).toEqual(['__proto__', 'other', 'parts.1.more'])
  expect(refusal).toMatchObject({ code: 'invalid_request' })
})

it('a body of a hundred thousand unknown fields is read', () => {
  const strange = Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`k${index}`, index]))
  const { body, unknown } = parseBodyLeniently(Body, JSON.stringify({ ...strange, parts: [] }))
  expect(body).toEqual({ parts: [] })
  expect(unknown).toHaveLength(100_000)
})

it('refuses what is wrong with the known fields', () => {
  const refused = () => parseBodyLeniently(Body, '{"parts":[],"size":"big","other":1}')
  expect(refused).toThrow(expect.objectContaining({ param: 'size' }))
})
