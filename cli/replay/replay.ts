import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import type { ForcedBranch } from '../../shared/protocol/node.ts'
import { type GenerateRequest, MAX_DEPTH } from '../../shared/protocol/request.ts'
import { readAnswers } from '../bench/judge/answers.ts'
import { UserError } from '../explain.ts'
import { AnswerForcer } from './forced-answer.ts'

/** The model whose shape and tokenizer a replay has. */
export interface ReplayModel {
  readonly path: string
  readonly adapter: string | undefined
}

/** By the id of the question. */
type Answers = ReadonlyMap<string, { readonly turns: readonly string[] }>

type Branching = NonNullable<GenerateRequest['branching']>

/** For a request whose answer is replayed: lists in lists fork too, unless it has a limit of its own. */
export function wholeTree(branching: Branching = {}): Branching {
  return { max_depth: MAX_DEPTH, ...branching }
}

/** The published answers to a set of questions. */
export class Replay {
  /** Of the file, or of the model that gave the answers. */
  readonly name: string
  /** SHA-256 of the answers. */
  readonly digest: string
  readonly #answers: Answers
  readonly #forcer: AnswerForcer

  private constructor(name: string, answers: Answers, forcer: AnswerForcer) {
    this.name = name
    this.digest = createHash('sha256')
      .update(JSON.stringify([...answers]))
      .digest('hex')
    this.#answers = answers
    this.#forcer = forcer
  }

  /**
   * @param file answers as FastChat has them, `FILE` or `FILE#MODE` as in {@link readAnswers}.
   * @throws AparError, UserError, StartupError
   */
  static async open(file: string, { path, adapter }: ReplayModel): Promise<Replay> {
    const { name, answers } = await readAnswers(file, '--replay')
    const checkpoint = readCheckpoint(path, { adapter })
    return new Replay(name === file ? basename(file) : name, answers, new AnswerForcer(checkpoint))
  }

  /** What is answered to a turn of the question, from 0; undefined where nothing was published. */
  forced(question: string, turn = 0): ForcedBranch[] | undefined {
    const answer = this.#answers.get(question)?.turns[turn]
    return answer === undefined ? undefined : this.#forcer.force(answer)
  }

  /** Those with an answer. @throws UserError `invalid_option` if there are none. */
  answered<Q extends { readonly id: string }>(questions: readonly Q[]): Q[] {
    const answered = questions.filter(({ id }) => this.#answers.has(id))
    if (answered.length > 0) return answered
    const why = 'has no answer to a question of the data set: their question_id must be the same'
    throw new UserError('invalid_option', `--replay: ${this.name} ${why}`)
  }
}
