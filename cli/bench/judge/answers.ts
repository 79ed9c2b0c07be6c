import { z } from 'zod'
import { badLine } from '../../../training/data/conversation.ts'
import { readJsonValues } from '../../../training/data/input/json-values.ts'
import { UserError } from '../../explain.ts'

/** What was answered to one question. */
export interface JudgedAnswer {
  /** Turn by turn. */
  readonly turns: readonly string[]
  /** The question, where the file has it. */
  readonly prompt: string | undefined
}

/** The answers of one model, or of one mode. */
export interface AnswerSet {
  readonly name: string
  /** By the id of the question. */
  readonly answers: ReadonlyMap<string, JudgedAnswer>
}

const id = z.union([z.string(), z.int()]).transform(String)

/** A line of FastChat's model answers (the older ones have one `text`), or of `apar bench serving --out`. */
const Line = z.union([
  z
    .looseObject({
      ...{ question_id: id, model_id: z.string().optional() },
      choices: z.array(z.looseObject({ turns: z.array(z.string()).min(1) })).min(1),
    })
    .transform(({ question_id, model_id, choices }) => ({
      ...{ id: question_id, model: model_id, mode: undefined, error: null },
      answer: { turns: choices[0]?.turns ?? [], prompt: undefined },
    })),
  z
    .looseObject({ question_id: id, model_id: z.string().optional(), text: z.string() })
    .transform(({ question_id, model_id, text }) => ({
      ...{ id: question_id, model: model_id, mode: undefined, error: null },
      answer: { turns: [text], prompt: undefined },
    })),
  z
    .looseObject({
      ...{ type: z.literal('request'), id, mode: z.string(), prompt: z.string(), text: z.string() },
      error: z.string().nullable(),
    })
    .transform(({ id, mode, prompt, text, error }) => ({
      ...{ id, model: undefined, mode, error, answer: { turns: [text], prompt } },
    })),
  // The other lines of apar bench serving --out.
  z.looseObject({ type: z.enum(['run', 'node', 'summary']) }).transform(() => undefined),
])

/**
 * The answers in `FILE`, or those of one mode in `FILE#MODE`. Of several answers to a question (rounds, rates) the first one
 * counts; requests that failed have none.
 * @throws AparError `invalid_request` with file and line. @throws UserError `invalid_option`
 */
export async function readAnswers(spec: string, option = '--answers'): Promise<AnswerSet> {
  const [, file = spec, wanted] = /^(.*)#([\w-]+)$/.exec(spec) ?? []
  const answers = new Map<string, JudgedAnswer>()
  const modes = new Set<string>()
  let model: string | undefined
  for await (const { value, line } of readJsonValues(file)) {
    const { success, data } = Line.safeParse(value)
    if (!success)
      throw badLine(
        file,
        line,
        'expected an answer of FastChat ({question_id, choices}) or of apar bench serving --out',
      )
    if (!data) continue
    if (data.mode !== undefined) modes.add(data.mode)
    if (data.error !== null || (wanted !== undefined && data.mode !== wanted)) continue
    model ??= data.model
    if (!answers.has(data.id)) answers.set(data.id, data.answer)
  }
  if (wanted === undefined && modes.size > 1) {
    const choices = [...modes].map((mode) => `${file}#${mode}`).join(', ')
    throw new UserError(
      'invalid_option',
      `${option}: ${file} has answers of several modes: name one of ${choices}`,
    )
  }
  if (answers.size === 0) throw new UserError('invalid_option', `${option}: ${spec} has no answers`)
  return { name: wanted ?? model ?? spec, answers }
}
