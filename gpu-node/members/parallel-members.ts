import { AparError } from '../../shared/errors.ts'
import { type NodeBatch, ROW_WIDTH } from '../../shared/protocol/node.ts'
import { type GenerateRequest, MAX_DEPTH } from '../../shared/protocol/request.ts'
import { EVENT } from '../engine/engine-events.ts'
import { DEFAULT_MAX_BRANCHES, type EngineGrammar } from '../engine/engine-request.ts'
import type { Grammars } from '../grammar/grammars.ts'
import type { AnswerStart } from '../reasoning/reasoning-start.ts'
import type { Prompts } from '../text/prompt-pool.ts'
import { givenRows } from './given-rows.ts'
import { KnownTexts } from './known-texts.ts'
import { type ObjectBranch, planMembers } from './member-plan.ts'

/** An answer whose members are decoded in parallel. */
export interface Members {
  /** Of the paths of its branches. */
  readonly grammar: EngineGrammar
  /** Rows with which a new one begins; none for one that has begun elsewhere. */
  readonly given: readonly number[]
}

/** A request with its prompt. */
export interface MembersAsked {
  readonly request: GenerateRequest
  readonly prompt: Int32Array
  /** Of an answer that may think first. */
  readonly answerStart: AnswerStart | undefined
  /** What another node has given of the answer. */
  readonly log: readonly NodeBatch[]
  /** Of prompt and answer. */
  readonly contextTokens: number
}

/** Decides which answers are decoded by branches for the members of their objects (docs/adr/0078). */
export class ParallelMembers {
  readonly #grammars: Pick<Grammars, 'ofMembers'>
  readonly #texts: KnownTexts

  constructor(
    grammars: Pick<Grammars, 'ofMembers'>,
    prompts: Pick<Prompts, 'answer' | 'bytes'>,
    model: string,
  ) {
    this.#grammars = grammars
    this.#texts = new KnownTexts(async (text) => {
      const answer = await prompts.answer({
        ...{ ask: 'tokenize', model, messages: [{ role: 'user', content: text }], raw_prompt: true },
        ...{ add_special_tokens: false, parse_special: false, list: 'ids' },
      })
      return answer.type === 'tokens' ? (answer.tokens ?? []) : []
    }, prompts.bytes)
  }

  /**
   * undefined for an answer that is decoded serially: it is not asked for, or schema or request do not allow it. The same for
   * each node that continues a stream, as its log shows.
   */
  async of({ request, prompt, answerStart, log, contextTokens }: MembersAsked): Promise<Members | undefined> {
    const plan = planOf(request)
    if (!plan || (answerStart && answerStart.start !== 'behind')) return undefined
    if (log.some(({ rows }) => rows.length > 0))
      return hasFork(log) ? { grammar: await this.#grammars.ofMembers(plan), given: [] } : undefined
    const given = await givenRows(plan, this.#texts, prompt.length)
    const most = Math.min(request.max_tokens ?? contextTokens, contextTokens - prompt.length)
    const mostOfBranch = request.branching?.max_branch_tokens ?? most
    if (!given || given.tokens >= most || given.longest >= mostOfBranch) return undefined
    try {
      return { grammar: await this.#grammars.ofMembers(plan), given: given.rows }
    } catch (error) {
      // What cannot be compiled as the grammar of paths may be one of the whole.
      if (error instanceof AparError && error.code === 'invalid_request') return undefined
      throw error
    }
  }
}

function planOf(request: GenerateRequest): ObjectBranch | undefined {
  const { parallel_format, output_format, tools, min_tokens, logprobs, prompt_logprobs, trace } = request
  const {
    enabled = true,
    max_branches = DEFAULT_MAX_BRANCHES,
    max_depth = MAX_DEPTH,
  } = request.branching ?? {}
  if (!parallel_format || !enabled || tools || output_format?.type !== 'json_schema') return undefined
  // Tokens that are given have no log-probabilities and no step; the other two are about one sequence of tokens.
  if (logprobs !== undefined || prompt_logprobs !== undefined || trace) return undefined
  if (min_tokens || request.stop_token_ids?.length) return undefined
  return planMembers(output_format.schema, { branches: max_branches, depth: max_depth })
}

function hasFork(log: readonly NodeBatch[]): boolean {
  return log.some(({ rows }) => rows.some((value, at) => at % ROW_WIDTH === 0 && value === EVENT.FORK))
}
