import type { Context } from 'hono'
import { MessagesRequest } from '../../shared/anthropic.ts'
import { markedBeginning } from '../anthropic/cache-markers.ts'
import { messagesError } from '../anthropic/errors.ts'
import { messageEvents, messagesRequest, wholeMessage } from '../anthropic/messages.ts'
import type { AppEnv } from '../app-env.ts'
import { apiBody } from '../middleware/api-body.ts'
import { withFormatOf } from '../streams/http/generate-request.ts'
import { SingleAnswer } from '../streams/http/single-answer.ts'
import { namedEvents, sseResponse } from '../streams/http/sse.ts'
import { startStreams } from '../streams/http/streams.ts'
import { withModel } from './named-model.ts'

/** `POST /v1/messages`, Anthropic's API, streaming and not. */
export async function createMessage(c: Context<AppEnv>): Promise<Response> {
  const body = await withModel(c, await apiBody(c, MessagesRequest))
  const beginning = markedBeginning(body)
  c.set('promptCacheKey', beginning)
  const isMarked = beginning !== undefined
  const streams = await withFormatOf(body, () => startStreams(c, [messagesRequest(body)]))
  const answer = new SingleAnswer(streams, body.stop_sequences)
  if (!body.stream) return c.json(await wholeMessage(body, answer, isMarked))
  const format = namedEvents((error) => messagesError(error, c.get('requestId')))
  return sseResponse(c, messageEvents(body, answer, isMarked), streams.cancel, format)
}
