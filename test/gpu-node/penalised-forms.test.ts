import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { requires } from '../support/requires.ts'
import { scriptedCheckpoint } from '../support/scripted-checkpoint.ts'
import type { TinyFolder } from '../support/tiny-checkpoint.ts'

const BUILT = existsSync(join(packageRoot, 'native/build/release/apar.node'))
const hasGrammars = requires('the grammar engine (python3 with pip)', () => Grammars.available)

const TEMPLATE = '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}'
/** The ends of text are tokens that the prompts have had, too. */
const ANSWERS = {
  t: [
    '<tool_call>\n<function=say>\n<parameter=text>\n',
    ...['hello', '</par', 'ame', 'ter>'],
    '\n</function>\n</tool_call>',
  ],
  j: ['{"te', 'xt": "', '"}'],
}
const MARKERS = ['</par', 'ame', 'ter>', '{"te', 'xt": "', '"}']
const SAY = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }
/** A `z` is likelier than the end of the text, if that has lost nine tenths of its logit. */
const RIVAL = { [String('z'.charCodeAt(0))]: 100 }
/** More than any of the model's tokens stands out. */
const DRY = { dry_multiplier: 100, dry_base: 100, dry_allowed_length: 1, dry_sequence_breakers: ['%'] }

describe.skipIf(!BUILT || !hasGrammars)('a penalty for repetitions', () => {
  let folder: TinyFolder
  let runner: Runner
  beforeAll(async () => {
    const markers = Object.fromEntries(MARKERS.map((marker) => [marker, false]))
    folder = scriptedCheckpoint({ template: TEMPLATE, answers: ANSWERS, markers })
    runner = await openRunner(folder.path, { threads: 1, name: 'scripted', toolFormat: 'qwen3-coder' })
  }, 60_000)
  afterAll(async () => {
    await runner?.close()
    folder?.remove()
  })

  async function answer(content: string, fields: object): Promise<{ text: string; reason: string }> {
    const messages = [{ role: 'user', content }]
    const request = GenerateRequest.parse({
      ...{ model: runner.model, messages, temperature: 0, max_tokens: 60 },
      ...fields,
    })
    const events: StreamEvent[] = []
    await new Promise<void>((resolve, reject) => {
      const publish = (batch: { events: readonly StreamEvent[] }) => {
        events.push(...batch.events)
        if (events.some(({ type }) => type === 'done' || type === 'error')) resolve()
      }
      runner.start(content, request, publish).catch(reject)
    })
    const text = events.map((event) => ('text' in event ? event.text : '')).join('')
    const last = events.at(-1)
    return { text, reason: last?.type === 'done' ? last.reason : JSON.stringify(last) }
  }

  test('leaves the end of a text in a call alone, which the tools are described with', async () => {
    const call = { tools: [{ name: 'say', parameters: SAY }], tool_choice: 'required' }
    expect(await answer('Say it: t', { ...call, ...DRY })).toEqual({
      text: '{"text": "hello"}',
      reason: 'stop',
    })
  })

  test('leaves the end of a string in JSON alone, which the prompt has', async () => {
    const format = { output_format: { type: 'json_schema', schema: SAY } }
    const prompt = '{"text": ""}? j'
    expect(await answer(prompt, { ...format, ...DRY })).toEqual({
      text: '{"text": ""}',
      reason: 'stop',
    })
  })

  test('of tokens leaves the end of a string in JSON alone, too', async () => {
    const format = { output_format: { type: 'json_schema', schema: SAY } }
    const fields = { repetition_penalty: 10, logit_bias: RIVAL }
    expect(await answer('{"text": ""}? j', { ...format, ...fields })).toEqual({
      text: '{"text": ""}',
      reason: 'stop',
    })
  })

  test('holds for all tokens of an answer without a form', async () => {
    const free = await answer('{"text": ""}? j', DRY)
    expect(free.text).toMatch(/^\{"text": "[^"}]/)
    const rival = await answer('{"text": ""}? j', { repetition_penalty: 10, logit_bias: RIVAL })
    expect(rival.text).toMatch(/^z/)
  })
})
