import type { Context } from 'hono'
import { AparError } from '../../../shared/errors.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import type { AppEnv } from '../../app-env.ts'
import { enter } from '../../keys/authorize.ts'
import { type Chunk, identified, positionOf, resumeStreams, startResumable } from './resumable.ts'
import { sseResponse } from './sse.ts'
import { type Streams, startStreams } from './streams.ts'

/**
 * The answer to a call that asks for a stream: its chunks as server-sent events, from the beginning, or for a client that
 * comes back from where it was.
 */
export async function streamChunks(
  c: Context<AppEnv>,
  requests: readonly GenerateRequest[],
  resumable: boolean | undefined,
  chunksOf: (streams: Streams) => AsyncIterable<Chunk>,
): Promise<Response> {
  const had = positionOf(c, requests.length)
  if (had && !resumable) {
    const message = 'last-event-id goes on with a call that has apar.resumable: send the same body'
    throw new AparError('invalid_request', message, { param: 'apar.resumable' })
  }
  if (!resumable) {
    const streams = await startStreams(c, requests)
    return sseResponse(c, chunksOf(streams), streams.cancel)
  }
  await enter(c, 'generate')
  const streams = await (had ? resumeStreams(c, had) : startResumable(c, requests))
  return sseResponse(c, identified(chunksOf(streams), streams, had), streams.cancel)
}
