import { AparError } from '../../shared/errors.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Grammars } from '../grammar/grammars.ts'
import { type Members, ParallelMembers } from '../members/parallel-members.ts'
import type { AnswerStart } from '../reasoning/reasoning-start.ts'
import type { Prompts } from '../text/prompt-pool.ts'
import type { ToolFormat } from '../tools/tool-format.ts'

export type ServedGrammars = Pick<Grammars, 'get' | 'ofTools' | 'ofMembers' | 'close'>

export interface AnswerFormatsOptions {
  /** Without them, requests with a format are refused. */
  readonly grammars: ServedGrammars | undefined
  readonly prompts: Pick<Prompts, 'answer' | 'bytes'>
  readonly tools: ToolFormat
  readonly model: string
  /** Whether what the prompt says about the answer decides where its grammar begins. */
  readonly reasons: boolean
}

/** A request whose prompt is being encoded. */
export interface FormatAsked {
  readonly request: GenerateRequest
  readonly log: readonly NodeBatch[]
  /** Without ids when nobody needs the request any more. */
  readonly encoding: Promise<{ ids: Int32Array | undefined; begins: AnswerStart | undefined }>
  readonly contextTokens: number
}

/** What the answers of a model must match. */
export class AnswerFormats {
  readonly #options: AnswerFormatsOptions
  readonly #members: ParallelMembers | undefined

  constructor(options: AnswerFormatsOptions) {
    const { grammars, prompts, model } = options
    this.#options = options
    this.#members = grammars && new ParallelMembers(grammars, prompts, model)
  }

  /** Without a grammar for any text. @throws AparError */
  async of(asked: FormatAsked): Promise<Partial<Members>> {
    const { tools, output_format, ...request } = asked.request
    if (!tools && !output_format) return {}
    const { grammars, reasons } = this.#options
    if (!grammars) {
      const param = tools ? 'tools' : 'output_format'
      const message = `${param}: this gpu node was set up without the grammar engine`
      throw new AparError('invalid_request', message, { param })
    }
    const members = request.parallel_format && (await this.#membersOf(asked))
    if (members) return members
    const start = reasons ? (await asked.encoding).begins : undefined
    const format = this.#options.tools
    if (tools) return { grammar: await grammars.ofTools({ ...request, tools, output_format }, format, start) }
    return output_format ? { grammar: await grammars.get(output_format, start) } : {}
  }

  /** undefined for an answer that is decoded serially. */
  async #membersOf({ request, log, encoding, contextTokens }: FormatAsked): Promise<Members | undefined> {
    const { ids: prompt, begins: answerStart } = await encoding
    return prompt && (await this.#members?.of({ request, prompt, answerStart, log, contextTokens }))
  }
}
