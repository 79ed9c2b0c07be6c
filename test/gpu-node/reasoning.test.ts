import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { OrderedText } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { ReasoningText } from '../../shared/reasoning-text.ts'
import { requires } from '../support/requires.ts'
import { scriptedCheckpoint } from '../support/scripted-checkpoint.ts'
import type { TinyFolder } from '../support/tiny-checkpoint.ts'

const BUILT = existsSync(join(packageRoot, 'native/build/release/apar.node'))
const hasGrammars = requires('the grammar engine (python3 with pip)', () => Grammars.available)

/** The prompt ends with the last message. With `thinking`, it opens the reasoning itself; without, it closes it. */
const TEMPLATE = `{{ bos_token }}{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}{% if enable_thinking is defined %}{% if enable_thinking %}<think>
{% else %}<think>

</think>

{% endif %}{% endif %}`

const ANSWERS = {
  // The marker is a token, and then two.
  a: ['<think>', '\nFirst, I think.\n', '</think>', '\n\nThe answer is 4.'],
  b: ['<th', 'ink>Hmm: 5</', 'think>\nFive it is!'],
  c: ['No thoughts here, only text.'],
  f: [
    '<thi',
    'nk>\nOne ',
    '[Fork]',
    'goes on </thi',
    'nk>\n\nDone: so',
    '</s>',
    '[Child]',
    'in a child, too',
  ],
  j: ['<thin', 'k>A json?</thin', 'k>\n{"sum": 12}'],
  t: [
    '<think',
    '>Call it.</think',
    '>\n\n<tool_call>\n{"name": "get", "arguments": {"city": "Rome"}}\n</tool_call>',
  ],
  // Behind the reasoning that the prompt opens.
  '\n': ['So I was told. </th', 'ink>Yes, sir'],
}

let streams = 0

interface Answer {
  reasoning: string
  content: string
  args: string
  events: StreamEvent[]
  batches: NodeBatch[]
}

async function answer(
  runner: Runner,
  content: string,
  fields: object = {},
  log: readonly NodeBatch[] = [],
): Promise<Answer> {
  const request = GenerateRequest.parse({
    ...{ model: runner.model, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 200 },
    ...{ separate_reasoning: true, ...fields },
  })
  const batches: NodeBatch[] = []
  await new Promise<void>((resolve, reject) => {
    const publish = (batch: NodeBatch) => {
      batches.push(batch)
      if (batch.events.some(({ type }) => type === 'done' || type === 'error')) resolve()
    }
    runner.start(log.length > 0 ? 'moved' : `stream-${++streams}`, request, publish, { log }).catch(reject)
  })
  const events = [...log, ...batches].flatMap((batch) => batch.events)
  const text = new OrderedText()
  const reasoning = new ReasoningText()
  return {
    reasoning: events.map((event) => reasoning.push(event)).join(''),
    content: events.map((event) => text.push(event)).join(''),
    args: events.map((event) => (event.type === 'tool_arguments' ? event.text : '')).join(''),
    events,
    batches,
  }
}

function usageOf({ events }: Answer) {
  const done = events.at(-1)
  if (done?.type !== 'done') throw new Error(JSON.stringify(done))
  return done.usage
}

describe.skipIf(!BUILT)('a model that thinks', () => {
  let folder: TinyFolder
  let runner: Runner
  beforeAll(async () => {
    const markers = { '<think>': false, '</think>': false }
    folder = scriptedCheckpoint({ template: TEMPLATE, answers: ANSWERS, markers })
    runner = await openRunner(folder.path, { threads: 1, name: 'scripted', toolFormat: 'hermes' })
  }, 60_000)
  afterAll(async () => {
    await runner?.close()
    folder?.remove()
  })

  test('has its reasoning apart, whether its markers are tokens or not', async () => {
    const marked = await answer(runner, 'a')
    expect(marked).toMatchObject({ reasoning: 'First, I think.', content: 'The answer is 4.' })
    expect(await answer(runner, 'b')).toMatchObject({ reasoning: 'Hmm: 5', content: 'Five it is!' })
    expect(await answer(runner, 'c')).toMatchObject({ reasoning: '', content: ANSWERS.c[0] })
    const { reasoning_tokens = 0, completion_tokens } = usageOf(marked)
    expect(reasoning_tokens).toBeGreaterThan(4)
    expect(reasoning_tokens).toBeLessThan(completion_tokens - 4)
    expect(usageOf(await answer(runner, 'c')).reasoning_tokens).toBe(0)
  })

  test('may begin inside of the reasoning that its prompt opens, or behind it', async () => {
    const on = { chat_template_kwargs: { enable_thinking: true } }
    expect(await answer(runner, 'x', on)).toMatchObject({ reasoning: 'So I was told.', content: 'Yes, sir' })
    const cut = await answer(runner, 'x', { ...on, max_tokens: 2 })
    expect(cut.content).toBe('')
    expect(usageOf(cut)).toMatchObject({ completion_tokens: 2, reasoning_tokens: 2 })
  })

  test('gives all of it as text where that is asked for', async () => {
    const { content, events } = await answer(runner, 'b', { separate_reasoning: false })
    expect(content).toBe('<think>Hmm: 5</think>\nFive it is!')
    expect(JSON.stringify(events)).not.toContain('reasoning')
  })

  test('goes on after any of the events of another node', async () => {
    const whole = await answer(runner, 'b')
    for (let kept = 1; kept < whole.batches.length; kept++) {
      const { reasoning, content } = await answer(runner, 'b', {}, whole.batches.slice(0, kept))
      expect({ reasoning, content }).toEqual({ reasoning: whole.reasoning, content: whole.content })
    }
  })

  test('has stop strings in its content only', async () => {
    const fields = { stop: ['think', 'is 4'], stop_scope: 'document' }
    const stopped = await answer(runner, 'a', fields)
    expect(stopped.reasoning).toBe('First, I think.')
    expect(stopped.events.at(-1)).toMatchObject({ reason: 'stop', text_length: 'The answer '.length })
  })

  test('has log-probabilities of its content, at its places', async () => {
    const { content, events } = await answer(runner, 'a', { logprobs: 0 })
    const rows = events.flatMap((event) => (event.type === 'delta' ? (event.logprobs ?? []) : []))
    const inside = rows.filter(({ at }) => at < content.length)
    expect(inside.length).toBeGreaterThan(3)
    for (const { at, token } of inside) expect(content.slice(at, at + token.length)).toBe(token)
  })

  test('thinks in the branches that it forks while it thinks', async () => {
    const forked = await answer(runner, 'f')
    expect(forked).toMatchObject({ reasoning: 'One in a child, toogoes on', content: 'Done: so' })
    expect(forked.events.find(({ type }) => type === 'fork')).toMatchObject({ at: 0, reasoning_at: 4 })
    const { reasoning_tokens = 0, branches } = usageOf(forked)
    expect(reasoning_tokens).toBeGreaterThan(branches[1]?.completion_tokens ?? 0)
    expect(reasoning_tokens).toBeLessThan(usageOf(forked).completion_tokens)
  })

  test('gets what it thought in earlier turns, where its template has that', async () => {
    const messages = [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'y', reasoning_content: 'Hm' },
      { role: 'user', content: 'a' },
    ]
    const { prompt_tokens } = usageOf(await answer(runner, '', { messages }))
    const without = messages.map(({ role, content }) => ({ role, content }))
    const { prompt_tokens: fewer } = usageOf(await answer(runner, '', { messages: without }))
    expect(prompt_tokens - fewer).toBe('Hm'.length + 2)
  })

  test.skipIf(!hasGrammars)('keeps to a format behind its reasoning', async () => {
    const schema = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'] }
    const output_format = { type: 'json_schema', schema }
    const thought = await answer(runner, 'j', { output_format })
    expect(thought).toMatchObject({ reasoning: 'A json?', content: '{"sum": 12}' })
    // What the script has behind the reasoning is no JSON.
    const forced = await answer(runner, 'b', { output_format, max_tokens: 60 })
    expect(forced.reasoning).toBe('Hmm: 5')
    expect(forced.content).toMatch(/^\{"sum": -?\d+/)
    const on = { chat_template_kwargs: { enable_thinking: true } }
    const inside = await answer(runner, 'x', { output_format, max_tokens: 60, ...on })
    expect(inside.reasoning).toBe('So I was told.')
    expect(inside.content).toMatch(/^\{"sum": -?\d+/)
    const off = { chat_template_kwargs: { enable_thinking: false } }
    const none = await answer(runner, 'x', { output_format, max_tokens: 60, ...off })
    expect(none.reasoning).toBe('')
    expect(none.content).toMatch(/^\{"sum": -?\d+/)
  })

  test.skipIf(!hasGrammars)('calls tools behind its reasoning', async () => {
    const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
    const tools = [{ name: 'get', parameters }]
    for (const tool_choice of ['auto', 'required', { name: 'get' }]) {
      const called = await answer(runner, 't', { tools, tool_choice })
      expect(called).toMatchObject({ reasoning: 'Call it.', content: '', args: '{"city": "Rome"}' })
    }
    const words = await answer(runner, 'a', { tools })
    expect(words).toMatchObject({ reasoning: 'First, I think.', content: 'The answer is 4.', args: '' })
  })
})

describe.skipIf(!BUILT)('a model whose markers are special tokens', () => {
  let folder: TinyFolder
  let runner: Runner
  beforeAll(async () => {
    const markers = { '[THINK]': true, '[/THINK]': true }
    const answers = { a: ['[THINK]', 'Let me see.', '[/THINK]', '{"sum": 3}'] }
    const template = '{{ messages[-1].content }}'
    folder = scriptedCheckpoint({ template, answers, markers })
    runner = await openRunner(folder.path, { threads: 1, name: 'scripted' })
  }, 60_000)
  afterAll(async () => {
    await runner?.close()
    folder?.remove()
  })

  test('has its reasoning apart', async () => {
    const expected = { reasoning: 'Let me see.', content: '{"sum": 3}' }
    expect(await answer(runner, 'a')).toMatchObject(expected)
    if (!hasGrammars) return
    const schema = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'] }
    expect(await answer(runner, 'a', { output_format: { type: 'json_schema', schema } })).toMatchObject(
      expected,
    )
  })
})
