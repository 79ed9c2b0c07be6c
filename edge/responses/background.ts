import type { Context } from 'hono'
import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { ResponseItem } from '../../shared/requests/response-items.ts'
import type { ResponsesRequest } from '../../shared/responses.ts'
import type { AppEnv } from '../app-env.ts'
import { authorizeAndReserve } from '../keys/authorize.ts'
import { toHex } from '../keys/credentials.ts'
import { begunResponse, type ResponseBody } from '../openai/responses.ts'
import { affinitiesOf } from '../streams/http/affinity.ts'
import { runToCompletion } from '../streams/http/streams.ts'
import type { RunRecord } from './background-run.ts'
import { MAX_RUNNING, responsesOf, storeLimits } from './response-store.ts'
import { toStored } from './stored-form.ts'

/** As a stream's name, which is not known yet. */
const ID_BYTES = 32

/**
 * Authorizes the call, reserves what its request may use, and has the key's store run it. Returns the response before its
 * answer.
 * @throws AparError when the key or its limits refuse the call; then nothing runs.
 */
export function startInBackground(
  c: Context<AppEnv>,
  body: ResponsesRequest,
  input: readonly ResponseItem[],
  request: GenerateRequest,
): Promise<ResponseBody> {
  return runToCompletion(c, start(c, body, input, request))
}

async function start(
  c: Context<AppEnv>,
  body: ResponsesRequest,
  input: readonly ResponseItem[],
  request: GenerateRequest,
): Promise<ResponseBody> {
  const admission = await authorizeAndReserve(c, [request])
  try {
    const principal = c.get('principal')
    const limits = storeLimits(c.env, principal)
    if (limits.responses === 0) throw refused('background: no responses are stored for this key')
    const [admitted] = admission.requests
    if (!admitted) throw new Error('an admission without a request')
    const stream = toHex(crypto.getRandomValues(new Uint8Array(ID_BYTES)))
    const created = Math.floor(Date.now() / 1000)
    const first = begunResponse(body, { stream, created, model: request.model }, true)
    const [affinity] = await affinitiesOf(c, [admitted])
    const waiting = { request: admitted, reservation: admission.handOver(), affinity }
    const run: RunRecord = { principal, callContext: c.get('callContext'), waiting }
    const started = await responsesOf(c.env, principal.id).start(toStored(first, input), run, limits)
    if (started === 'too_long') throw refused('background: the input is too long to be stored')
    if (started === 'too_many') throw tooMany()
    return first
  } catch (error) {
    await admission.settle()
    throw error
  }
}

function refused(message: string): AparError {
  return new AparError('invalid_request', message, { param: 'background' })
}

function tooMany(): AparError {
  const message = `this key has ${MAX_RUNNING} responses running in the background, as many as it may have`
  return new AparError('too_many_streams', message, { retryAfterSeconds: 1 })
}
