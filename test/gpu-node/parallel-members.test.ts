// Members of strict objects that are decoded in parallel, by the demo model and the grammar engine.
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { randomSchema } from '../support/random-schema.ts'
import { requires } from '../support/requires.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }))

type Schema = Record<string, unknown>

function strict(properties: Schema): Schema {
  return { type: 'object', properties, required: Object.keys(properties), additionalProperties: false }
}

const WORD = { type: 'string', maxLength: 8 }
const PERSON = strict({
  name: WORD,
  age: { type: 'integer', minimum: 0, maximum: 150 },
  home: strict({ city: WORD, 'post "code"': { type: 'string', pattern: '^[0-9]{5}$' } }),
  tags: { type: 'array', items: { enum: ['a', 'b c', 7, null] }, maxItems: 3 },
})

let runner: Runner
beforeAll(async () => {
  runner = await openRunner(`${packageRoot}/models/demo`, { threads: 1 })
}, 60_000)
afterAll(() => runner?.close())

interface Answer {
  readonly tree: BranchTree
  readonly text: string
  readonly reason: string
  readonly batches: NodeBatch[]
  /** Of usage, in order of id. */
  readonly tokens: number[]
}

let streams = 0

interface Asked {
  readonly log?: readonly NodeBatch[]
  /** Called with each batch; the answer ends with `true`, as if its node were lost. */
  readonly until?: (batches: readonly NodeBatch[]) => boolean
}

async function answer(fields: object, { log = [], until = () => false }: Asked = {}): Promise<Answer> {
  const request = GenerateRequest.parse({
    ...{ model: runner.model, messages: [{ role: 'user', content: 'Say something' }] },
    ...{ max_tokens: 600, temperature: 1.5, parallel_format: true },
    ...fields,
  })
  const batches: NodeBatch[] = []
  await new Promise<void>((resolve, reject) => {
    let over = false
    const started = runner.start(
      `members-${++streams}`,
      request,
      (batch) => {
        if (over) return
        batches.push(batch)
        over = batch.events.some(({ type }) => type === 'done' || type === 'error') || until(batches)
        if (over) started.then((handle) => handle.cancel()).finally(resolve)
      },
      { log },
    )
    started.catch(reject)
  })
  const events: StreamEvent[] = [...log, ...batches].flatMap((batch) => batch.events)
  const tree = new BranchTree()
  for (const event of events) tree.apply(event)
  const last = events.at(-1)
  const tokens = last?.type === 'done' ? last.usage.branches.map((branch) => branch.completion_tokens) : []
  const reason = last?.type === 'done' ? last.reason : JSON.stringify(last)
  return { tree, text: tree.text(), reason, batches, tokens }
}

function ofSchema(schema: object) {
  return { output_format: { type: 'json_schema', schema } }
}

function isValid(schema: object, text: string): boolean {
  return ajv.validate(schema, JSON.parse(text))
}

const ofPerson = ofSchema(PERSON)

describe.skipIf(!served)('members in parallel', () => {
  test('are branches of one valid document, in the order of the schema', async () => {
    for (let seed = 0; seed < 8; seed++) {
      const { tree, text, reason, tokens } = await answer({ ...ofPerson, seed })
      expect(reason).toBe('stop')
      expect(isValid(PERSON, text), text).toBe(true)
      expect(Object.keys(JSON.parse(text))).toEqual(['name', 'age', 'home', 'tags'])
      const branches = tree.branches().map(({ parent, text }) => [parent, text.slice(0, 6)])
      expect(branches).toEqual([
        [null, expect.stringMatching(/^\{/)],
        [0, 'name":'],
        [0, 'age": '],
        [0, 'home":'],
        [0, 'tags":'],
        [3, 'city":'],
        [3, 'post \\'],
      ])
      expect(tree.joints).toBe('kept')
      expect(tokens).toHaveLength(7)
    }
  })

  test('are on one line as those of an answer that is decoded serially', async () => {
    const { text } = await answer({ ...ofPerson, seed: 1 })
    const keysOnly = text.replace(/("(?:[^"\\]|\\.)*")(:?)|\d+|null/g, (all, _, colon) => (colon ? all : 'V'))
    expect(keysOnly).toMatch(
      /^\{"name": V, "age": V, "home": \{"city": V, "post \\"code\\"": V\}, "tags": \[(V(, V)*)?\]\}$/,
    )
  })

  test('do not depend on how many of them the engine runs at once, nor on what else it does', async () => {
    const expected = await answer({ ...ofPerson, seed: 3 })
    const busy = await Promise.all(
      Array.from({ length: 6 }, (_, index) => answer({ ...ofPerson, seed: index % 2 === 0 ? 3 : index })),
    )
    for (const index of [0, 2, 4]) expect(busy[index]?.text).toBe(expected.text)
  })

  test('move to another node with what they have', { timeout: 60_000 }, async () => {
    const whole = await answer({ ...ofPerson, seed: 5 })
    let moved = 0
    for (const kept of [1, 2, 3]) {
      const begun = await answer({ ...ofPerson, seed: 5 }, { until: ({ length }) => length === kept })
      if (begun.reason === 'stop') continue
      moved++
      const { text, reason, tokens } = await answer({ ...ofPerson, seed: 5 }, { log: begun.batches })
      expect([text, reason]).toEqual([whole.text, 'stop'])
      expect(tokens).toEqual(whole.tokens)
    }
    expect(moved).toBeGreaterThan(0)
  })

  test('do not move to a node with another grammar engine, as other answers do', async () => {
    const other = ({ rows, events }: NodeBatch): NodeBatch => ({
      rows,
      events: events.map((event) =>
        event.type === 'accepted'
          ? { ...event, fingerprint: event.fingerprint?.replace(/[^.]*$/, 'none') }
          : event,
      ),
    })
    const fingerprint = (begun: Answer) => {
      const [first] = begun.batches[0]?.events ?? []
      return first?.type === 'accepted' ? first.fingerprint : undefined
    }
    const until = ({ length }: readonly NodeBatch[]) => length === 1
    const begun = await answer({ ...ofPerson, seed: 5 }, { until })
    const plain = await answer({ seed: 5, max_tokens: 60 }, { until })
    expect(fingerprint(begun)).toBe(runner.fingerprint)
    expect(runner.fingerprint).toBe(`${fingerprint(plain)}.${runner.fingerprint.split('.').at(-1)}`)
    const moved = answer({ ...ofPerson, seed: 5 }, { log: begun.batches.map(other) })
    await expect(moved).rejects.toMatchObject({ code: 'model_changed' })
    await answer({ seed: 5, max_tokens: 60 }, { log: plain.batches })
  })

  test('end together at the limit of tokens, which counts what was given', async () => {
    const given = (await answer({ ...ofPerson, seed: 1 }, { until: () => true })).batches[0]?.rows ?? []
    const tokens = given.filter((kind, at) => at % 4 === 0 && kind === 1).length
    const { reason, tree, ...cut } = await answer({ ...ofPerson, seed: 1, max_tokens: tokens + 4 })
    expect(reason).toBe('length')
    expect(cut.tokens.reduce((sum, count) => sum + count, 0)).toBe(tokens + 4)
    expect(tree.branches()).toHaveLength(7)
    const serial = await answer({ ...ofPerson, seed: 1, max_tokens: tokens })
    expect([serial.reason, serial.tree.branches().length]).toEqual(['length', 1])
    const short = await answer({ ...ofPerson, seed: 1, branching: { max_branch_tokens: 4 } })
    expect(short.reason).toBe('length')
    expect(Math.max(...short.tokens.slice(1))).toBeLessThanOrEqual(4)
  })

  test('end at a stop string in document order, wherever it lies', async () => {
    const { text: whole } = await answer({ ...ofPerson, seed: 6 })
    for (const stop of ['{"', ', "age"', '": ', '"home": {', whole.slice(-3)]) {
      const end = await answer({ ...ofPerson, seed: 6, stop: [stop], stop_scope: 'document' })
      const length = end.batches.at(-1)?.events.at(-1)
      expect(length, stop).toMatchObject({ type: 'done', reason: 'stop', text_length: whole.indexOf(stop) })
      expect(end.text).toBe(whole.slice(0, whole.indexOf(stop)))
    }
    const own = await answer({ ...ofPerson, seed: 6, stop: ['age"'] })
    expect(own.tree.branches().map(({ text }) => text)).toContain('')
    expect(own.reason).toBe('stop')
  })

  test('can be cancelled, all or one', async () => {
    const events: StreamEvent[] = []
    await new Promise<void>((resolve, reject) => {
      const request = GenerateRequest.parse({
        ...{ model: runner.model, messages: [{ role: 'user', content: 'x' }], parallel_format: true },
        ...ofSchema(strict({ a: WORD, b: { type: 'array', items: WORD, minItems: 4000 } })),
      })
      const started = runner.start('cancelled', request, ({ events: more }) => {
        if (events.length === 0) void started.then((handle) => handle.cancelBranch(2)).catch(reject)
        events.push(...more)
        if (events.at(-1)?.type === 'done') resolve()
      })
    })
    expect(events).toContainEqual(expect.objectContaining({ type: 'branch_end', branch: 2, reason: 'abort' }))
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'stop' })
  })

  test.each<[string, object]>([
    ['is not asked for', { parallel_format: false }],
    ['may not fork', { branching: { enabled: false } }],
    ['may have two branches', { branching: { max_branches: 2 } }],
    ['may not be deeper than its root', { branching: { max_depth: 1 } }],
    ['has log-probabilities', { logprobs: 1 }],
    ['has a trace', { trace: true }],
    ['has tokens that end it', { stop_token_ids: [5] }],
    ['has a least length', { min_tokens: 5 }],
    ['has one member that is required', ofSchema({ ...PERSON, required: ['name'] })],
    ['has an optional member in front', ofSchema({ ...PERSON, required: ['age', 'home'] })],
    ['has another format', { output_format: { type: 'regex', pattern: '[a-z]{3}' } }],
    ['calls tools', { tools: [{ name: 'f', parameters: PERSON }], tool_choice: 'required' }],
  ])('are none where the answer %s', async (_, fields) => {
    const { tree, reason } = await answer({ ...ofPerson, seed: 2, ...fields })
    expect([tree.branches().length, reason]).toEqual([1, 'stop'])
  })

  test('may be optional behind the others, in the branch of the last of these', async () => {
    const schema = { ...PERSON, required: ['name', 'age'] }
    const keys = new Set<string>()
    for (let seed = 0; seed < 12; seed++) {
      const { tree, text, reason } = await answer({ ...ofSchema(schema), seed })
      expect([tree.branches().length, reason]).toEqual([3, 'stop'])
      expect(isValid(schema, text), text).toBe(true)
      keys.add(Object.keys(JSON.parse(text)).join(' '))
    }
    expect(keys.size).toBeGreaterThan(1)
    for (const each of keys) expect(each).toMatch(/^name age( home)?( tags)?$/)
  })

  test('share branches where there are more than the limit', async () => {
    const { tree, text } = await answer({ ...ofPerson, seed: 2, branching: { max_branches: 3 } })
    expect(tree.branches()).toHaveLength(3)
    expect(isValid(PERSON, text), text).toBe(true)
  })

  test('of random schemas are valid', { timeout: 1_200_000 }, async () => {
    const objects = fc.uniqueArray(fc.tuple(fc.string({ maxLength: 6, unit: 'grapheme' }), randomSchema), {
      ...{ minLength: 2, maxLength: 6, selector: ([key]) => key },
    })
    const schemas = fc
      .sample(objects, { numRuns: Number(process.env.APAR_SCHEMAS ?? 60), seed: 11 })
      .map((members) => strict(Object.fromEntries(members)))
    const wrong: unknown[] = []
    let parallel = 0
    let complete = 0
    for (let at = 0; at < schemas.length; at += 4) {
      await Promise.all(
        schemas.slice(at, at + 4).map(async (schema, index) => {
          const seed = at + index
          const { text, reason, tree } = await answer({ ...ofSchema(schema), max_tokens: 900, seed })
          if (tree.branches().length > 1) parallel++
          if (reason === 'length') return
          complete++
          if (reason !== 'stop' || !isValid(schema, text)) wrong.push({ schema, text, reason })
        }),
      )
    }
    expect(wrong).toEqual([])
    expect(parallel).toBeGreaterThan(0.9 * schemas.length)
    expect(complete).toBeGreaterThan(0.7 * schemas.length)
  })
})
