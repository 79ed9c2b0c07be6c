// Members of strict objects, decoded in parallel against serially.
import type { Ask } from '../../cli/trace/ask.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { type BenchCase, ratioCase, type SampleFile } from '../report.ts'
import { RECORDS, type Record } from './records.ts'
import type { Schema } from './schemas.ts'

const MAX_TOKENS = 600

interface Answer {
  readonly text: string
  /** Its values by their paths; undefined for an answer that is not valid. */
  readonly values: ReadonlyMap<string, string> | undefined
  readonly ms: number
  readonly tokens: number
  readonly branches: number
  /** Forward passes of the engine meanwhile. */
  readonly steps: number
}

type IsValid = (schema: Schema, value: unknown) => boolean

/** Times of single answers and of all records at once, in turns; and how much of the answers is the same. */
export async function membersInParallel(
  { runner, ask, isValid }: { runner: Runner; ask: Ask; isValid: IsValid },
  repetitions: number,
  file: SampleFile,
): Promise<BenchCase[]> {
  const answers = async (schemaOf: (record: Record) => Schema, parallel: boolean) => {
    const got: Answer[] = []
    for (const record of RECORDS)
      got.push(
        await answer(
          runner,
          ask,
          requestOf(runner, { ...record, schema: schemaOf(record) }, parallel),
          isValid,
        ),
      )
    return got
  }
  const schema = (record: Record) => record.schema
  // Compiles the grammars, too.
  const parallel = await answers(schema, true)
  const serial = await answers(schema, false)
  const reversed = await answers((record) => withReversedKeys(record.schema), false)
  for (const [index, { name }] of RECORDS.entries()) {
    const [one, other, third] = [serial[index], parallel[index], reversed[index]]
    file.add({
      bench: 'structured',
      case: 'members',
      name,
      serial: sample(one),
      parallel: sample(other),
      reversed: sample(third),
    })
  }

  const steps = serial.map((answer, index) => answer.steps / (parallel[index]?.steps ?? 0))

  const alone: number[] = []
  const together: number[] = []
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const first = repetition % 2 === 0
    for (const record of RECORDS) {
      const one = await answer(runner, ask, requestOf(runner, record, first), isValid)
      const other = await answer(runner, ask, requestOf(runner, record, !first), isValid)
      alone.push(first ? other.ms / one.ms : one.ms / other.ms)
    }
    const one = await timeOfAll(runner, ask, isValid, first)
    const other = await timeOfAll(runner, ask, isValid, !first)
    together.push(first ? other / one : one / other)
  }
  file.add({ bench: 'structured', case: 'members, times', alone, together })
  return [
    ratioCase('members in parallel: serial time of that in parallel, one stream', alone, 'higher', 1),
    ratioCase(`the same, ${RECORDS.length} streams`, together, 'higher', 1),
    ratioCase('the same of forward passes, one stream', steps, 'higher', 1),
    share(
      'members in parallel: answers that are valid',
      parallel.filter(({ values }) => values).length / parallel.length,
      1,
    ),
    share(
      'members in parallel: values that are those of the serial answer, greedy',
      agreement(serial, parallel),
    ),
    share(
      'values of a serial answer with its keys in reverse order that are those of the serial answer',
      agreement(serial, reversed),
    ),
  ]
}

async function timeOfAll(runner: Runner, ask: Ask, isValid: IsValid, parallel: boolean): Promise<number> {
  const begun = performance.now()
  await Promise.all(
    RECORDS.map((record) => answer(runner, ask, requestOf(runner, record, parallel), isValid)),
  )
  return performance.now() - begun
}

function requestOf({ model }: Runner, { ask, schema }: Record, parallel: boolean): GenerateRequest {
  return {
    ...{ model, messages: [{ role: 'user', content: ask }], max_tokens: MAX_TOKENS, temperature: 0 },
    ...{ output_format: { type: 'json_schema', schema }, parallel_format: parallel },
  }
}

async function answer(runner: Runner, ask: Ask, request: GenerateRequest, isValid: IsValid): Promise<Answer> {
  const tree = new BranchTree()
  const before = runner.stats().steps
  const begun = performance.now()
  for await (const event of ask(request)) {
    tree.apply(event)
    if (event.type !== 'done') continue
    const ms = performance.now() - begun
    const text = tree.text()
    const schema = request.output_format?.type === 'json_schema' ? request.output_format.schema : {}
    const value: unknown = event.reason === 'stop' ? JSON.parse(text) : undefined
    const values = isValid(schema, value) ? new Map(valuesOf(value)) : undefined
    const { completion_tokens, branches } = event.usage
    const steps = runner.stats().steps - before
    return { text, values, ms, tokens: completion_tokens, branches: branches.length, steps }
  }
  throw new Error('an answer has no end')
}

/** Of all members that are no objects. */
function valuesOf(value: unknown, path = ''): [path: string, json: string][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return [[path, JSON.stringify(value)]]
  return Object.entries(value).flatMap(([key, member]) => valuesOf(member, `${path}/${key}`))
}

/** Of the values of all complete answers, those that are the same in another one. */
function agreement(answers: readonly Answer[], others: readonly Answer[]): number {
  const same = answers.flatMap(({ values }, index) => {
    const other = others[index]?.values
    return values && other ? [...values].map(([path, json]) => other.get(path) === json) : []
  })
  return same.filter(Boolean).length / same.length
}

function withReversedKeys(schema: Schema): Schema {
  const { properties, required } = schema
  if (typeof properties !== 'object' || properties === null || !Array.isArray(required)) return schema
  const members = Object.entries(properties).reverse()
  const reversed = members.map(([key, member]) => [key, withReversedKeys(member)])
  return { ...schema, properties: Object.fromEntries(reversed), required: [...required].reverse() }
}

function sample(answer: Answer | undefined) {
  if (!answer) return undefined
  const { values: _, ...rest } = answer
  return rest
}

function share(name: string, value: number, goal: number | null = null): BenchCase {
  return { case: name, value: Number(value.toPrecision(4)), unit: 'share', better: 'higher', goal }
}
