import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { resolveModel } from '../cli/models/resolve.ts'
import { type Ask, asksRunner } from '../cli/trace/ask.ts'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { Runner } from '../gpu-node/requests/runner.ts'
import type { DoneEvent } from '../shared/protocol/events.ts'
import type { OutputFormat } from '../shared/protocol/output-format.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import {
  type BenchCase,
  type BenchOptions,
  type BenchResult,
  commit,
  machine,
  median,
  ratioCase,
  SampleFile,
} from './report.ts'
import { membersInParallel } from './structured/members.ts'
import { ENDLESS, SCHEMAS, type Schema } from './structured/schemas.ts'

/** With a vocabulary of 49,152 tokens. */
const MODEL = 'smollm2-135m-instruct'
const STREAMS = 32
const LOAD_TOKENS = 96
const MAX_TOKENS = 800

const ajv = addFormats.default(new Ajv2020({ strict: false }))

/**
 * What structured output costs: the time for a mask, the throughput of a load with a schema against the same load without,
 * in turns on one engine, the time until a schema is compiled; and whether answers drawn at random match their schemas. And
 * what it gains where members are decoded in parallel.
 */
export async function structured({ quick }: BenchOptions): Promise<BenchResult> {
  const repetitions = quick ? 3 : 9
  const file = new SampleFile('structured')
  const runner = await openRunner(resolveModel(MODEL).path, { prefixCache: false, speculation: 'off' })
  const ask = asksRunner(runner)
  const cases: BenchCase[] = []
  try {
    if (!runner.servesFormats) throw new Error('the grammar engine is missing: npm run setup says why')
    const compiled = await firstAnswers(runner, ask)
    file.add({ bench: 'structured', case: 'first answer of a schema', ...compiled })
    cases.push(
      row('from a new schema to the first token, one stream', median(Object.values(compiled)), 'ms', 'lower'),
    )

    const before = runner.stats()
    await load(runner, ask, ENDLESS)
    const ratios: number[] = []
    for (let repetition = 0; repetition < repetitions; repetition++) {
      const first = repetition % 2 === 0
      const one = await load(runner, ask, first ? ENDLESS : undefined)
      const other = await load(runner, ask, first ? undefined : ENDLESS)
      const [constrained, free] = first ? [one, other] : [other, one]
      file.add({ bench: 'structured', case: 'load', repetition, constrained, free })
      ratios.push(constrained / free)
    }
    const { grammarMasks, grammarMaskSeconds } = runner.stats()
    const masks = grammarMasks - before.grammarMasks
    const seconds = grammarMaskSeconds - before.grammarMaskSeconds
    file.add({ bench: 'structured', case: 'masks', masks, seconds })
    cases.push(row(`a mask, ${STREAMS} streams, mean`, (1e6 * seconds) / masks, 'µs', 'lower', 50))
    const name = `throughput with a schema, of that without, ${STREAMS} streams`
    cases.push(ratioCase(name, ratios, 'higher', 0.95))

    const drawn = await valid(runner, ask, quick ? 2 : 20)
    file.add({ bench: 'structured', case: 'valid', ...drawn })
    cases.push(
      row(
        `answers at temperature 1 that match, of ${drawn.ended} that ended`,
        drawn.valid / drawn.ended,
        'share',
        'higher',
        1,
      ),
    )
    const isValid = (schema: Schema, value: unknown) => ajv.validate(schema, value)
    cases.push(...(await membersInParallel({ runner, ask, isValid }, quick ? 1 : 5, file)))
  } finally {
    await runner.close()
  }
  return { bench: 'structured', commit: commit(), machine: machine(), samples: file.path, cases }
}

/** Milliseconds from a request with a schema that was not asked for before to its first token. */
async function firstAnswers(runner: Runner, ask: Ask): Promise<Record<string, number>> {
  const times: Record<string, number> = {}
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    const begun = performance.now()
    for await (const event of ask(requestOf(runner, name, { schema, maxTokens: 4, temperature: 0 }))) {
      if (event.type === 'delta') times[name] ??= round(performance.now() - begun)
    }
  }
  return times
}

/** Tokens a second. */
async function load(runner: Runner, ask: Ask, schema: Schema | undefined): Promise<number> {
  const begun = performance.now()
  const tokens = await Promise.all(
    Array.from({ length: STREAMS }, async (_, index) => {
      const about = `Count the words of story ${index}.`
      const { usage } = await answer(
        ask,
        requestOf(runner, about, { schema, maxTokens: LOAD_TOKENS, temperature: 0 }),
      )
      return usage.completion_tokens
    }),
  )
  return (1000 * tokens.reduce((sum, count) => sum + count, 0)) / (performance.now() - begun)
}

/** Answers of `count` seeds for each schema, all at once; one that was cut at its limit of tokens does not count. */
async function valid(runner: Runner, ask: Ask, count: number): Promise<{ valid: number; ended: number }> {
  const asked = Object.entries(SCHEMAS).flatMap(([name, schema]) =>
    Array.from({ length: count }, (_, seed) => ({ name, schema, seed })),
  )
  const verdicts = await Promise.all(
    asked.map(async ({ name, schema, seed }) => {
      const request = requestOf(runner, name, { schema, maxTokens: MAX_TOKENS, temperature: 1 })
      const { text, reason } = await answer(ask, { ...request, seed })
      return reason === 'stop' ? ajv.validate(schema, JSON.parse(text)) : undefined
    }),
  )
  const ended = verdicts.filter((verdict) => verdict !== undefined)
  return { valid: ended.filter(Boolean).length, ended: ended.length }
}

async function answer(ask: Ask, request: GenerateRequest): Promise<DoneEvent & { text: string }> {
  let text = ''
  for await (const event of ask(request)) {
    if (event.type === 'delta') text += event.text
    if (event.type === 'done') return { ...event, text }
  }
  throw new Error('an answer has no end')
}

interface Asked {
  schema: Schema | undefined
  maxTokens: number
  temperature: number
}

function requestOf(
  runner: Runner,
  about: string,
  { schema, maxTokens, temperature }: Asked,
): GenerateRequest {
  const format = schema && ({ type: 'json_schema', schema } satisfies OutputFormat)
  return {
    ...{ model: runner.model, messages: [{ role: 'user', content: `Make up a ${about} in JSON.` }] },
    ...{ max_tokens: maxTokens, temperature, branching: { enabled: false } },
    // Both kinds of answers are as long.
    ...(format ? { output_format: format } : { ignore_eos: true }),
  }
}

function row(
  name: string,
  value: number,
  unit: string,
  better: BenchCase['better'],
  goal: number | null = null,
): BenchCase {
  return { case: name, value: round(value), unit, better, goal }
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
