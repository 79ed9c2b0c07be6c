import { AparError } from '../../shared/errors.ts'
import type {
  AcceptedEvent,
  DeltaEvent,
  ForkEvent,
  ReasoningEvent,
  StreamEvent,
  ToolArgumentsEvent,
  ToolCallEvent,
  Usage,
} from '../../shared/protocol/events.ts'
import { besideContents } from '../../shared/protocol/prompt-chars.ts'
import { type GenerateRequest, MAX_DEPTH, MAX_LIVE_BRANCHES } from '../../shared/protocol/request.ts'
import type { SpeculationUsage } from '../../shared/protocol/speculation.ts'
import { maxNewTokens } from './node-allowance.ts'

/** A character takes up to three bytes of UTF-8, and a byte at most one token; templates add text of their own. */
const PROMPT_TOKENS_PER_CHAR = 3
/** Templates may indent the JSON of tools. */
const TIMES_SHOWN = 4
const SPARE_PROMPT_TOKENS = 64 * 1024
/** The engine may have sampled the last tokens of several branches in one step. */
const SPARE_TOKENS = 1024

interface Branch {
  readonly depth: number
  /** UTF-16 code units of its own text so far. */
  length: number
  /** The same of its reasoning. */
  reasoningLength: number
  ended: boolean
}

/**
 * Checks that the events of a stream keep the promises of docs/protocol.md ("What a client can rely on") and the limits
 * of their request, as far as the schemas and the log cannot see that. Nothing here knows whether a text is right.
 */
export class EventCheck {
  readonly #stream: string
  readonly #request: GenerateRequest
  readonly #contextTokens: number | undefined
  readonly #branches = new Map<number, Branch>([
    [0, { depth: 1, length: 0, reasoningLength: 0, ended: false }],
  ])
  #live = 1
  #newest = 0
  #calls = 0
  readonly #maxLive: number
  readonly #maxDepth: number

  /** `log`: the events before. */
  constructor(
    stream: string,
    request: GenerateRequest,
    contextTokens: number | undefined,
    log: readonly StreamEvent[],
  ) {
    this.#stream = stream
    this.#request = request
    this.#contextTokens = contextTokens
    const { enabled = true, max_branches, max_depth } = request.branching ?? {}
    this.#maxLive = enabled ? (max_branches ?? MAX_LIVE_BRANCHES) : 1
    this.#maxDepth = enabled ? (max_depth ?? MAX_DEPTH) : 1
    for (const event of log) this.check(event)
  }

  /** Call for each event, in order. @throws AparError `invalid_request` for an event that no honest node sends. */
  check(event: StreamEvent): void {
    if (event.type === 'delta') this.#delta(event)
    else if (event.type === 'reasoning') this.#reasoning(event)
    else if (event.type === 'tool_call' || event.type === 'tool_arguments') this.#call(event)
    else if (event.type === 'fork') this.#fork(event)
    else if (event.type === 'branch_end') this.#end(event.branch)
    else if (event.type === 'accepted') this.#accepted(event)
    else if (event.type === 'done') this.#usage(event.usage)
    else if (event.type === 'trace' && !this.#request.trace) throw broken('a trace that was not asked for')
    if (event.seq === 0 && event.type !== 'accepted' && event.type !== 'error')
      throw broken(`${event.type} before accepted`)
  }

  #accepted({ seq, stream, model, prompt_tokens = 0, prompt_token_ids }: AcceptedEvent): void {
    if (seq !== 0) throw broken('a second accepted')
    const asked = this.#request.return_prompt_token_ids ? prompt_tokens : undefined
    if (prompt_token_ids?.length !== asked)
      throw broken(
        `${prompt_token_ids?.length} ids of a prompt of ${prompt_tokens} tokens; asked for ${asked}`,
      )
    if (prompt_tokens > this.#maxPrompt) throw broken(`a prompt of ${prompt_tokens} tokens`)
    if (stream !== this.#stream || model !== this.#request.model)
      throw broken('accepted has another stream or model')
  }

  #delta({ branch, text }: DeltaEvent): void {
    this.#running(branch).length += text.length
  }

  #reasoning({ branch, text }: ReasoningEvent): void {
    const running = this.#running(branch)
    if (running.length > 0) throw broken(`reasoning of branch ${branch} behind its text`)
    running.reasoningLength += text.length
  }

  #call(event: ToolCallEvent | ToolArgumentsEvent): void {
    this.#running(0)
    if (!this.#request.tools) throw broken('a call of a tool without tools')
    if (event.type === 'tool_call') {
      const isKnown = this.#request.tools.some(({ name }) => name === event.name)
      if (!isKnown) throw broken('a call of a tool that the request does not have')
      this.#calls++
    }
    if (event.call !== this.#calls - 1) throw broken(`part of call ${event.call} of ${this.#calls}`)
  }

  #fork({ branch, parent, at, reasoning_at }: ForkEvent): void {
    const { depth, length, reasoningLength } = this.#running(parent)
    if (branch <= this.#newest)
      throw broken(`the number ${branch} of a new branch is not above ${this.#newest}`)
    if (at !== length) throw broken(`a fork at ${at} of a text of ${length}`)
    if (reasoning_at !== undefined && reasoning_at !== reasoningLength)
      throw broken(`a fork at ${reasoning_at} of a reasoning of ${reasoningLength}`)
    if (depth >= this.#maxDepth) throw broken(`a branch deeper than ${this.#maxDepth}`)
    if (++this.#live > this.#maxLive) throw broken(`more than ${this.#maxLive} live branches`)
    this.#newest = branch
    this.#branches.set(branch, { depth: depth + 1, length: 0, reasoningLength: 0, ended: false })
  }

  #end(branch: number): void {
    this.#running(branch).ended = true
    this.#live--
  }

  #running(id: number): Branch {
    const branch = this.#branches.get(id)
    if (!branch) throw broken(`there is no branch ${id}`)
    if (branch.ended) throw broken(`branch ${id} has ended`)
    return branch
  }

  get #maxPrompt(): number {
    return Math.min(maxPromptTokens(this.#request), this.#contextTokens ?? Number.POSITIVE_INFINITY)
  }

  /** Counts are charged to the request's key. */
  #usage(usage: Usage): void {
    const { prompt_tokens, cached_prompt_tokens, completion_tokens, total_tokens, branches } = usage
    const { speculation } = usage.apar ?? {}
    if (speculation && !areDrafts(speculation)) throw broken('more drafts were accepted than there were')
    const maxPrompt = this.#maxPrompt
    const maxNew = maxNewTokens(this.#request, this.#contextTokens) + SPARE_TOKENS
    const plausible =
      prompt_tokens <= maxPrompt &&
      cached_prompt_tokens <= prompt_tokens &&
      completion_tokens <= maxNew &&
      total_tokens <= prompt_tokens + completion_tokens &&
      branches.every(({ completion_tokens: tokens }) => tokens <= maxNew)
    if (!plausible)
      throw broken(
        `usage of ${prompt_tokens} and ${completion_tokens} tokens; at most ${maxPrompt} and ${maxNew}`,
      )
  }
}

function areDrafts({ heads = [], ngram, ...total }: SpeculationUsage): boolean {
  return [total, ...heads, ...(ngram ? [ngram] : [])].every(({ drafted, accepted }) => accepted <= drafted)
}

function maxPromptTokens({
  messages,
  tools,
  prompt_token_ids = [],
  chat_template_kwargs = {},
}: GenerateRequest): number {
  const contents = messages.reduce((sum, { content }) => sum + content.length, 0)
  const chars = contents + TIMES_SHOWN * besideContents({ messages, tools }).length
  const variables = JSON.stringify(chat_template_kwargs).length
  return SPARE_PROMPT_TOKENS + prompt_token_ids.length + PROMPT_TOKENS_PER_CHAR * (chars + variables)
}

function broken(what: string): AparError {
  return new AparError('invalid_request', `events: ${what}`)
}
