import type { ChatMessage } from '../../../shared/protocol/request.ts'
import { UserError } from '../../explain.ts'
import type { AnswerSet } from './answers.ts'
import { type JudgeMode, type JudgePrompt, judgeMessages, promptName } from './judge-prompts.ts'

/** A question that was answered. */
export interface JudgedQuestion {
  readonly id: string
  readonly category: string
  readonly turns: readonly string[]
}

/** One thing that the judge is asked. */
export interface Match {
  readonly question: string
  readonly category: string
  /** From 1. */
  readonly turn: number
  /** Of FastChat's prompts. */
  readonly prompt: string
  /** Indices of the answer sets: in the places A and B, or the one that is rated. */
  readonly players: readonly number[]
  readonly messages: readonly ChatMessage[]
}

export interface MatchOptions {
  readonly mode: JudgeMode
  readonly questions: readonly JudgedQuestion[]
  readonly sets: readonly AnswerSet[]
  /** Answers that a judge of mathematics or code needs; questions without one are judged by the general prompts. */
  readonly references: AnswerSet | undefined
  readonly prompts: ReadonlyMap<string, JudgePrompt>
}

/**
 * Everything to be judged: of each question that all sets answer, every turn that all have; pairs in both orders, because
 * judges prefer a place.
 * @throws UserError `invalid_option`
 */
export function matchesOf(options: MatchOptions): Match[] {
  const { mode, questions, sets } = options
  return questions.flatMap((question) => {
    const answers = sets.map((set) => set.answers.get(question.id)?.turns ?? [])
    const turns = Math.min(question.turns.length, 2, ...answers.map(({ length }) => length))
    const orders =
      mode === 'pairwise'
        ? [
            [0, 1],
            [1, 0],
          ]
        : sets.map((_, index) => [index])
    return Array.from({ length: turns }, (_, index) => index + 1).flatMap((turn) =>
      orders.map((players) => matchOf(options, question, turn, players)),
    )
  })
}

function matchOf(
  options: MatchOptions,
  question: JudgedQuestion,
  turn: number,
  players: readonly number[],
): Match {
  const { mode, sets, references, prompts } = options
  const reference = references?.answers.get(question.id)?.turns ?? []
  const hasReference = reference.length >= turn
  const name = promptName(mode, { isMultiTurn: turn > 1, hasReference })
  const prompt = prompts.get(name)
  if (!prompt) throw new UserError('invalid_option', `--judge-prompts: there is no prompt ${name}`)
  const turnsOf = (player: number | undefined) => sets[player ?? 0]?.answers.get(question.id)?.turns ?? []
  const values = {
    question: question.turns[0] ?? '',
    ...numbered('question', question.turns),
    ...numbered('ref_answer', reference),
    ...(mode === 'pairwise'
      ? { ...placed('answer_a', turnsOf(players[0])), ...placed('answer_b', turnsOf(players[1])) }
      : placed('answer', turnsOf(players[0]))),
  }
  return {
    ...{ question: question.id, category: question.category, turn, prompt: name, players },
    messages: judgeMessages(prompt, values),
  }
}

function placed(name: string, turns: readonly string[]): Record<string, string> {
  return { [name]: turns[0] ?? '', ...numbered(name, turns) }
}

function numbered(name: string, turns: readonly string[]): Record<string, string> {
  return Object.fromEntries(turns.map((text, index) => [`${name}_${index + 1}`, text]))
}
