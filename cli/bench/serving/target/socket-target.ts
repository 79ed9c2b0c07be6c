import { WebSocket } from 'ws'
import { openStream } from '../../../../client/index.ts'
import { AparError } from '../../../../shared/errors.ts'
import type { StreamEvent } from '../../../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../../../shared/protocol/request.ts'
import { type ReceivedAnswer, RequestFailed } from './answer.ts'
import type { BenchRequest, Target } from './target.ts'

/** The WebSocket of an edge of apar, through the JavaScript client. Text of all branches counts when it arrives. */
export function socketTarget({ baseUrl, key }: { baseUrl: string; key: string }): Target {
  return {
    ask: async (request, answer) => {
      // A lost connection is an error of the run: it is not to be hidden by resuming.
      const stream = openStream({
        ...{ baseUrl, apiKey: key, request: toGenerate(request), WebSocket, reconnectMs: 0 },
      })
      try {
        for await (const event of stream) readEvent(event, answer, performance.now())
      } catch (error) {
        if (error instanceof AparError) throw new RequestFailed(error.code, error.message)
        throw error
      }
      answer.setText(stream.tree.text())
    },
    close: () => {},
  }
}

/** An event that arrived at `at`. */
export function readEvent(event: StreamEvent, answer: ReceivedAnswer, at: number): void {
  if (event.type === 'delta') answer.addText(event.text, at)
  if (event.type === 'trace') answer.addSteps(event.steps)
  if (event.type !== 'done') return
  const { prompt_tokens, cached_prompt_tokens, completion_tokens } = event.usage
  answer.usage = {
    promptTokens: prompt_tokens,
    cachedTokens: cached_prompt_tokens,
    outputTokens: completion_tokens,
  }
  answer.finish = event.reason
  answer.whole = true
}

export function toGenerate({
  model,
  messages,
  maxTokens,
  temperature,
  seed,
  fixedLength,
  mode,
  trace,
}: BenchRequest) {
  const request: GenerateRequest = {
    ...{ model, messages: [...messages], max_tokens: maxTokens, temperature },
    ...(temperature > 0 && { seed }),
    ...(fixedLength && { ignore_eos: true, min_tokens: maxTokens }),
    ...(trace && { trace }),
    ...(mode && { branching: { enabled: mode.parallel }, speculation: mode.speculation }),
  }
  return request
}
