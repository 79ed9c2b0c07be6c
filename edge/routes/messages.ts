import type { Context } from 'hono'
import { MessagesRequest } from '../../shared/anthropic.ts'
import { parseJson } from '../../shared/parse.ts'
import { messagesError } from '../anthropic/errors.ts'
import { messageEvents, messagesRequest, wholeMessage } from '../anthropic/messages.ts'
import type { AppEnv } from '../env.ts'
import { SingleAnswer } from '../openai/single-answer.ts'
import { namedEvents, sseResponse } from '../openai/sse.ts'
import { startStreams } from '../openai/streams.ts'
import { bodyText } from '../request-body.ts'

export const MESSAGES_PATH = '/v1/messages'

/** `POST /v1/messages`, Anthropic's API, streaming and not. */
export async function createMessage(c: Context<AppEnv>): Promise<Response> {
  const body = parseJson(MessagesRequest, await bodyText(c))
  const streams = await startStreams(c, [messagesRequest(body)])
  const answer = new SingleAnswer(streams)
  if (!body.stream) return c.json(await wholeMessage(answer))
  return sseResponse(c, messageEvents(answer), streams.cancel, namedEvents(messagesError))
}
