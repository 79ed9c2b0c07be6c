import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { ChatMessage } from '../../shared/protocol/request.ts'
import { badLine } from '../../training/data/conversation.ts'
import { readJsonValues } from '../../training/data/input/json-values.ts'
import { UserError } from '../explain.ts'

/** Question sets that are found by name. */
export const DATASETS = ['vicuna_bench', 'mt_bench'] as const

/** Where a folder of FastChat, or one with the files alone, has the questions of a set. */
const PLACES = [
  (name: string) => join(name, 'question.jsonl'),
  (name: string) => `${name}.jsonl`,
  (name: string) => join('fastchat/llm_judge/data', name, 'question.jsonl'),
]

const text = z.string().min(1)
const id = z.union([text, z.int()])

/** A line as the file has it; its other fields are kept. */
const Line = z.union([
  z.looseObject({ question_id: id, category: z.string().optional(), turns: z.array(text).min(1) }),
  z.looseObject({ id: id.optional(), category: z.string().optional(), prompt: text }),
  z.looseObject({
    id: id.optional(),
    category: z.string().optional(),
    messages: z.array(ChatMessage).min(1),
  }),
])

/** One question of a set, with all its turns. */
export interface Question {
  readonly id: string
  readonly category: string
  /** Messages before the first turn. */
  readonly before: readonly ChatMessage[]
  /** What the user says, turn by turn; the model answers each. */
  readonly turns: readonly string[]
  /** The line of the file. */
  readonly line: Readonly<Record<string, unknown>>
}

/**
 * The file of a data set: a path, or a name that is looked up in `folder`.
 * @throws UserError `missing_option`, `invalid_option` for a name that is not found.
 */
export function datasetFile(dataset: string, folder: string | undefined): string {
  if (!DATASETS.some((name) => name === dataset)) {
    if (existsSync(dataset)) return dataset
    const what = `--dataset: ${dataset} is neither a file nor ${DATASETS.join(' or ')}`
    throw new UserError('invalid_option', what)
  }
  if (folder === undefined) {
    const what = `--data: name the folder with ${dataset}, for example fastchat/llm_judge/data of a FastChat checkout`
    throw new UserError('missing_option', what)
  }
  const tried = PLACES.map((place) => join(folder, place(dataset)))
  const found = tried.find((path) => existsSync(path))
  if (found === undefined)
    throw new UserError('invalid_option', `--data: there is none of ${tried.join(', ')}`)
  return found
}

/** Of its bytes: another version of a set has other questions under the same ids. */
export function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}

/**
 * The questions of a file, in its order. A line is `{question_id, turns}` as FastChat has them, `{id?, prompt}` or
 * `{id?, messages}`, each with a `category`.
 * @throws AparError `invalid_request` with file and line. @throws UserError `invalid_option` for an id of two lines.
 */
export async function readQuestions(file: string): Promise<Question[]> {
  const questions: Question[] = []
  const ids = new Set<string>()
  for await (const { value, line } of readJsonValues(file)) {
    const { success, data } = Line.safeParse(value)
    if (!success) throw badLine(file, line, 'expected {question_id, turns}, {prompt} or {messages}')
    const question = toQuestion(data, `${basename(file)}:${line}`)
    if (!question) throw badLine(file, line, "the last message must be the user's")
    if (ids.has(question.id))
      throw new UserError('invalid_option', `--dataset: ${question.id} is the id of two questions`)
    ids.add(question.id)
    questions.push(question)
  }
  return questions
}

function toQuestion(line: z.infer<typeof Line>, place: string): Question | undefined {
  const known = { category: line.category ?? 'all', line }
  if ('turns' in line && Array.isArray(line.turns))
    return { ...known, id: String(line.question_id), before: [], turns: line.turns as string[] }
  const own = { ...known, id: String(line.id ?? place) }
  if ('prompt' in line) return { ...own, before: [], turns: [line.prompt as string] }
  const messages = line.messages as ChatMessage[]
  const last = messages.at(-1)
  return last?.role === 'user' ? { ...own, before: messages.slice(0, -1), turns: [last.content] } : undefined
}
