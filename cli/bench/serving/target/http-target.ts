import { z } from 'zod'
import { type ReceivedAnswer, RequestFailed } from './answer.ts'
import { createPoster, failureIn, type PosterOptions } from './post.ts'
import type { Route } from './routes.ts'
import { SseReader } from './sse-reader.ts'
import type { Target } from './target.ts'

/** One of the HTTP APIs of a server. `more`: further fields of every body. */
export function httpTarget(route: Route, options: PosterOptions, more: object = {}): Target {
  const poster = createPoster(options)
  return {
    ask: async (request, answer) => {
      let failure: unknown
      const reader = new SseReader((data) => {
        if (failure !== undefined || data === '[DONE]') return
        try {
          readEvent(route, data, answer)
        } catch (error) {
          failure = error
        }
      })
      await poster.post(route.path, { ...route.body(request), ...more }, (bytes) => reader.push(bytes))
      if (failure !== undefined) throw asFailure(failure)
      if (!answer.whole) throw new RequestFailed('incomplete', 'the answer ended without its end')
    },
    close: () => poster.close(),
  }
}

function readEvent(route: Route, data: string, answer: ReceivedAnswer): void {
  const at = performance.now()
  const value: unknown = JSON.parse(data)
  // Fields of Responses' events name the error of the response, too: its route reads that.
  const failed = failureIn(value)
  if (failed) throw failed
  route.read(value, answer, at)
}

/** An event that is none of the API is the server's fault, and counts as such. */
function asFailure(error: unknown): unknown {
  if (error instanceof SyntaxError) return new RequestFailed('invalid_event', 'an event is not JSON')
  if (error instanceof z.ZodError)
    return new RequestFailed(
      'invalid_event',
      `an event is not of this API: ${error.issues[0]?.path.join('.')}`,
    )
  return error
}
