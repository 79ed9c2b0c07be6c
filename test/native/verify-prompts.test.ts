import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'

const ROOT = join(import.meta.dirname, '../..')
const FILE = join(ROOT, 'native/gpu/verification/prompts.json')

/** Prompts as token ids, for a machine without Node. To change them, edit the texts and update the ids. */
const Prompts = z.strictObject({
  model: z.string(),
  control: z.strictObject({ fork: z.int(), child: z.int(), eos: z.array(z.int()).min(1) }),
  prompts: z.array(z.strictObject({ text: z.string(), ids: z.array(z.int()) })).min(1),
})
type Prompts = z.infer<typeof Prompts>

function readPrompts(): Prompts {
  return Prompts.parse(JSON.parse(readFileSync(FILE, 'utf8')))
}

/** Encodes the texts as a gpu node encodes a request with one user message. */
function encodeAgain({ model, prompts }: Prompts): Prompts {
  const { tokens, text, shape } = readCheckpoint(join(ROOT, model))
  const { fork, child, eos } = tokens
  if (fork === undefined || child === undefined) throw new Error(`${model} has no fork and child tokens`)
  const encoder = new PromptEncoder(text, [fork, child, ...eos])
  const encode = (content: string) => [...encoder.encode([{ role: 'user', content }], shape.contextTokens)]
  return {
    model,
    control: { fork, child, eos },
    prompts: prompts.map((prompt) => ({ text: prompt.text, ids: encode(prompt.text) })),
  }
}

it('the token ids in native/gpu/verification/prompts.json match their texts', () => {
  const encoded = encodeAgain(readPrompts())
  // After a change of the texts or the model: APAR_UPDATE_PROMPTS=1 npx vitest run test/native/verify-prompts.test.ts,
  // then npm run format.
  if (process.env.APAR_UPDATE_PROMPTS) writeFileSync(FILE, `${JSON.stringify(encoded, null, 2)}\n`)
  expect(readPrompts()).toEqual(encoded)
})
